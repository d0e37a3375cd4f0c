package sbom

// Supply is a package that a step of a build brings into what is built.
type Supply struct {
	Package Package
	// Licence is the path, below the directory of the step's output, of the text that says the
	// package's licence as Debian's copyright files do; empty when the step has none.
	Licence string
	// Program is the path of a Go program there, whose modules are packages too; empty when there is
	// none. Licences are those of the modules by their import paths.
	Program  string
	Licences map[string]string
	// Tree is set when files of the output keep their paths in what is built of it, so that they say
	// which files of an image are the package's.
	Tree bool
}

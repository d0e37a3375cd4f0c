package images

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/copyright"
)

// bill is a bill of materials of what steps have brought in.
type bill struct {
	*sbom.Document
	in func(build.Step) string
	// packages are the identifiers of what each supplier brought in, by its name.
	packages map[string][]string
}

// supplier adds the packages of a step and returns their identifiers.
func (b *bill) supplier(from supplier) ([]string, error) {
	if ids, done := b.packages[from.Name()]; done {
		return ids, nil
	}
	found, err := from.Supplies(b.in)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range found {
		id, err := b.supply(s, b.in(from))
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "describing %s of %s", s.Package.Name, from.Name())
		}
		ids = append(ids, id)
	}
	if b.packages == nil {
		b.packages = map[string][]string{}
	}
	b.packages[from.Name()] = ids
	return ids, nil
}

// supply adds a package, whose files are in dir.
func (b *bill) supply(s sbom.Supply, dir string) (string, error) {
	p := s.Package
	if s.Licence != "" {
		text, err := bounded.ReadRegular(filepath.Join(dir, filepath.FromSlash(s.Licence)), copyright.MaxSize)
		if err != nil {
			return "", err
		}
		c, err := copyright.Parse(cmp.Or(p.SourceName, p.Name), text)
		if err != nil {
			return "", err
		}
		p.Declared, p.Copyright = cmp.Or(p.Declared, c.Expression), c.Holders
		b.Licences = append(b.Licences, c.Licences...)
	}
	if s.Program != "" {
		return b.program(p, filepath.Join(dir, filepath.FromSlash(s.Program)), s.Licences)
	}
	return b.AddPackage(p), nil
}

// maxProgram bounds a program, in bytes.
const maxProgram = 1 << 30

// program adds a Go program with the modules that it is made of.
func (b *bill) program(p sbom.Package, file string, licences map[string]string) (string, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "reading what it is made of")
	}
	content, err := bounded.ReadRegular(file, maxProgram)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	p.SHA256, p.FileName = hex.EncodeToString(sum[:]), path.Base(file)
	p.PURL = sbom.GoProgram(info.Main.Path, p.Version, info.Path)
	p.Declared = licences[info.Main.Path]
	b.forget(info.Main.Path, info.Path)
	id := b.AddPackage(p)
	for _, m := range info.Deps {
		dep := sbom.GoModule(m)
		dep.Declared = licences[m.Path]
		b.Relate(id, sbom.DependsOn, b.AddPackage(dep))
	}
	b.Relate(id, sbom.DependsOn, b.AddPackage(sbom.GoStandardLibrary(info.GoVersion)))
	return id, nil
}

// forget removes what a scan of a root file system has found of a program: the build knows more.
func (b *bill) forget(module, program string) {
	gone := map[string]bool{}
	b.Packages = slices.DeleteFunc(b.Packages, func(p sbom.Package) bool {
		of := p.SHA256 == "" && p.PURL == sbom.GoProgram(module, p.Version, program)
		gone[p.ID] = of
		return of
	})
	b.Relations = slices.DeleteFunc(b.Relations, func(r sbom.Relation) bool { return gone[r.From] || gone[r.To] })
}

// paths sets the files of packages; several packages that one kernel was made of share them.
func (b *bill) paths(from []supplier, paths []string) {
	for _, s := range from {
		for _, id := range b.packages[s.Name()] {
			if i := slices.IndexFunc(b.Packages, func(p sbom.Package) bool { return p.ID == id }); i >= 0 {
				b.Packages[i].Paths = paths
			}
		}
	}
}

// tools adds the programs of the build machine that made elements, and the tool chain of this program.
func (b *bill) tools(list []supplier, made []string) error {
	for _, s := range list {
		ids, err := b.supplier(s)
		if err != nil {
			return err
		}
		for _, id := range ids {
			b.Relate(id, sbom.BuildToolOf, made...)
			for i := range b.Packages {
				b.Packages[i].Host = b.Packages[i].Host || b.Packages[i].ID == id
			}
		}
	}
	b.sameSource()
	version := sbom.GoRelease(runtime.Version())
	tool := b.AddPackage(sbom.Package{Name: "go", Version: version, Purpose: sbom.Application, PURL: sbom.GoPURL("toolchain", version), Declared: "BSD-3-Clause", Host: true})
	b.Relate(tool, sbom.BuildToolOf, made...)
	return nil
}

// sameSource gives packages whose licence is not known that of another package of the same source: a
// package without the text shares the documentation of one that has it (Debian Policy 12.5).
func (b *bill) sameSource() {
	known := map[[2]string]string{}
	for _, p := range b.Packages {
		if p.SourceName != "" && p.Declared != "" {
			known[[2]string{p.SourceName, p.SourceVersion}] = p.Declared
		}
	}
	for i := range b.Packages {
		p := &b.Packages[i]
		p.Declared = cmp.Or(p.Declared, known[[2]string{p.SourceName, p.SourceVersion}])
	}
}

package containers

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/sbom"
)

// licencesDir is where the licences of packages are in the output of a [Part], at their own paths.
const licencesDir = "licences"

// keepLicence moves the text with a package's licence from the directory where it was unpacked to out,
// or copies it if it is part of the container.
func keepLicence(out, dir string, pkg Package, f *debian.Fetch) error {
	from, to := filepath.Join(dir, filepath.FromSlash(f.Licence())), filepath.Join(out, licencesDir, filepath.FromSlash(f.Licence()))
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Link(from, to)); err != nil {
			return err
		}
	}
	if pkg.wanted(f.Licence()) != "" {
		return nil
	}
	return removeEmpty(dir, filepath.Dir(from), os.Remove(from))
}

// removeEmpty removes a directory and those above it, below dir, that have nothing else.
func removeEmpty(dir, at string, err error) error {
	for err == nil && at != dir {
		if os.Remove(at) != nil { // it has other files
			return nil
		}
		at = filepath.Dir(at)
	}
	return err
}

// Supplies are the programs and packages that the container is made of.
func (p *Part) Supplies(in func(build.Step) string) (out []sbom.Supply, err error) {
	for _, f := range slices.Concat(p.packages, p.depended) {
		found, err := f.Supply(in(f), filepath.Join(in(p), licencesDir))
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			if s.Licence != "" {
				s.Licence = path.Join(licencesDir, s.Licence)
			}
			s.Tree = false // only the licences are there
			out = append(out, s)
		}
	}
	return out, nil
}

package releases

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// IndexName is the list of the files of a release.
const IndexName = "index.json"

// MaxIndex bounds the size of an index, in bytes.
const MaxIndex = 16 << 20

// IndexFormat is the form of the list; another number is another form.
const IndexFormat = "pantavisor-release@1"

// Index is the list of the files of a release. The same results have the same list.
type Index struct {
	Format  string `json:"format"`
	Target  string `json:"target"`
	Version string `json:"version"`
	// Board is what the target is.
	Board Board `json:"board"`
	// Support says for how long, and by whom, vulnerabilities are handled.
	Support *targets.Support `json:"support,omitempty"`
	Files   []File           `json:"files"`
}

// Board describes a target.
type Board struct {
	Description string   `json:"description"`
	Arch        string   `json:"arch"` // in Go's terms, with a version: arm/7
	Aliases     []string `json:"aliases,omitempty"`
}

// File is a file of a release.
type File struct {
	Name string `json:"name"`
	// Kind is image, bmap (block map of an image), disk (for emulators), flash (for raw flash
	// memory), bsp or revision (exports), rootfs, installer, package, sbom or file.
	Kind string `json:"kind"`
	// Compression is xz, zst, gz or bz2 of a file that is also there as it is, and Of the name of
	// that one.
	Compression string `json:"compression,omitempty"`
	Of          string `json:"of,omitempty"`
	Bytes       int64  `json:"bytes"`
	SHA256      string `json:"sha256"`
}

// The bills of materials of a build, those of package images.
const (
	sbomFile = "sbom.json"
	sbomDir  = "sbom"
)

// compressions are the suffixes of compressed files.
var compressions = []string{".xz", ".zst", ".gz", ".bz2"}

// Add adds a file. Its form is found by [Index.SetForms] when all files are there.
func (x *Index) Add(name string, size int64, sha256 string) {
	x.Files = append(x.Files, File{Name: name, Kind: kindOf(name), Bytes: size, SHA256: sha256})
}

// SetForms sets Compression and Of of files that are compressed forms of others.
func (x *Index) SetForms() {
	for i := range x.Files {
		f := &x.Files[i]
		for _, c := range compressions {
			name, ok := strings.CutSuffix(f.Name, c)
			if ok && x.File(name) != nil {
				f.Compression, f.Of = c[1:], name
			}
		}
	}
}

// File returns the file of a name, nil for none.
func (x *Index) File(name string) *File {
	if i := slices.IndexFunc(x.Files, func(f File) bool { return f.Name == name }); i >= 0 {
		return &x.Files[i]
	}
	return nil
}

// Image returns the main image as it is, and its smallest form, which may be the same; nil when
// there is none.
func (x *Index) Image() (plain, smallest *File) {
	i := slices.IndexFunc(x.Files, func(f File) bool { return f.Kind == "image" && f.Of == "" })
	if i < 0 {
		return nil, nil
	}
	plain = &x.Files[i]
	smallest = plain
	for j := range x.Files {
		if f := &x.Files[j]; f.Kind == "image" && f.Of == plain.Name && f.Bytes < smallest.Bytes {
			smallest = f
		}
	}
	return plain, smallest
}

// Map returns the block map of the main image, nil for none.
func (x *Index) Map() *File {
	plain, _ := x.Image()
	if plain == nil {
		return nil
	}
	name := plain.Name
	for _, c := range compressions {
		name = strings.TrimSuffix(name, c)
	}
	if f := x.File(plain.Name + ".bmap"); f != nil {
		return f
	}
	return x.File(name + ".bmap")
}

// Text is the file of an index.
func (x *Index) Text() ([]byte, error) {
	text, err := json.MarshalIndent(x, "", "  ")
	return append(text, '\n'), fault.Wrap(fault.Internal, err, "writing the index of a release")
}

// ParseIndex reads an index, and checks that its names can be those of files.
func ParseIndex(text []byte) (*Index, error) {
	x := &Index{}
	if err := json.Unmarshal(text, x); err != nil {
		return nil, fault.New(fault.BadInput, "it is not the index of a release: %w", err)
	}
	if x.Format != IndexFormat {
		return nil, fault.New(fault.Unsupported, "it has the format %.100q, and not %s", x.Format, IndexFormat)
	}
	if err := options.CheckRelease(x.Version); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the version of a release")
	}
	if err := CheckTarget(x.Target); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, f := range x.Files {
		if !validFile(f) || seen[f.Name] {
			return nil, fault.New(fault.BadInput, "the file %.100q of the index has a name that leads elsewhere or is there twice, a negative size, or no SHA-256", f.Name)
		}
		seen[f.Name] = true
	}
	return x, nil
}

// targetName matches names of targets.
var targetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$`)

// CheckTarget returns an error for a name that a target cannot have.
func CheckTarget(name string) error {
	if !targetName.MatchString(name) {
		return fault.New(fault.BadInput, "%.100q is not a valid name of a target: it has up to 100 letters, digits and . _ + -, and begins with a letter or digit", name)
	}
	return nil
}

func validFile(f File) bool { return validName(f.Name) && f.Bytes >= 0 && isDigest(f.SHA256) }

// validName reports whether a name is that of a file below a directory, no part of it hidden.
func validName(name string) bool {
	return fs.ValidPath(name) && !strings.HasPrefix(name, ".") && !strings.Contains(name, "/.") && plainText(name)
}

// plainText reports whether a name has no control characters and no backslash.
func plainText(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool { return c == '\\' || c < ' ' || c == 0x7f || c == 0xfffd })
}

// isDigest reports whether a text is a SHA-256 in hex.
func isDigest(s string) bool {
	return len(s) == 64 && !strings.ContainsFunc(s, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') })
}

// kinds are the kinds of files by the ends of their names, the first that fits.
var kinds = []struct{ suffix, kind string }{
	{"-revision.pvr.tgz", "revision"}, {".pvr.tgz", "bsp"}, {".bmap", "bmap"}, {".img", "image"}, {".qcow2", "disk"}, {".ubi", "flash"}, {".ubifs", "flash"}, {".bin", "flash"},
	{".rootfs.tar", "rootfs"}, {"-tezi.tar", "installer"}, {".tgz", "package"}, {sbomFile, "sbom"}, {".spdx.json", "sbom"}, {".cdx.json", "sbom"},
}

// kindOf returns the kind of a file.
func kindOf(name string) string {
	if strings.HasPrefix(name, sbomDir+"/") {
		return "sbom"
	}
	for _, c := range compressions {
		name = strings.TrimSuffix(name, c)
	}
	for _, k := range kinds {
		if strings.HasSuffix(name, k.suffix) {
			return k.kind
		}
	}
	return "file"
}

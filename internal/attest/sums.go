package attest

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// File is a file that is signed.
type File struct {
	Name   string `json:"name"` // below the directory, with '/'
	SHA256 string `json:"sha256"`
}

// listSums returns the list of digests in the form of sha256sum, sorted by name.
func listSums(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	for i, f := range files {
		if !validName(f.Name) || i > 0 && files[i-1].Name == f.Name {
			return nil, fault.New(fault.BadInput, "signing: the name %q of a file has a backslash or a control character, leads out of its directory, or is there twice", f.Name)
		}
		fmt.Fprintf(&out, "%s  %s\n", f.SHA256, f.Name)
	}
	return out.Bytes(), nil
}

// validName reports whether a name is one that sha256sum writes as it is, below the directory.
func validName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsFunc(name, func(c rune) bool { return c == '\\' || c < ' ' || c == 0x7f })
}

// parseSums reads a list of digests.
func parseSums(text []byte) ([]File, error) {
	var out []File
	names := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if _, err := hex.DecodeString(sum); err != nil || !ok || len(sum) != 64 || sum != strings.ToLower(sum) || !validName(name) || names[name] {
			return nil, fault.New(fault.BadInput, "line %d is not a digest of SHA-256, two blanks and the name of another file below the directory", len(out)+1)
		}
		names[name] = true
		out = append(out, File{name, sum})
	}
	if len(out) == 0 {
		return nil, fault.New(fault.BadInput, "it is empty")
	}
	return out, nil
}

// Artefacts lists the files that a build has published below a directory. Of a directory all files
// are listed.
func Artefacts(ctx context.Context, dir string, published []build.Published) ([]File, error) {
	var out []File
	for _, p := range published {
		file := filepath.Join(dir, filepath.FromSlash(p.Path))
		info, err := os.Stat(file)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "signing %s", p.Path)
		}
		if !info.IsDir() {
			out = append(out, File{p.Path, p.SHA256})
			continue
		}
		below, err := list(file, p.Path)
		if err != nil {
			return nil, err
		}
		if err := digests(ctx, dir, below); err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}

// list returns the names of the regular files in a tree, behind a prefix.
func list(dir, prefix string) ([]File, error) {
	var out []File
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || e.IsDir():
			return err
		case !e.Type().IsRegular():
			return fault.New(fault.Unsupported, "%s is neither a file nor a directory, and cannot be signed", name)
		}
		out = append(out, File{Name: prefix + "/" + name})
		return nil
	})
	return out, fault.Wrap(fault.IO, err, "listing %s", dir)
}

// digests fills in the digests of files, several at once.
func digests(ctx context.Context, dir string, files []File) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i := range files {
		group.Go(func() error {
			sum, err := build.SumFile(ctx, filepath.Join(dir, filepath.FromSlash(files[i].Name)))
			files[i].SHA256 = sum
			return fault.Wrap(fault.IO, err, "reading %s", files[i].Name)
		})
	}
	return group.Wait()
}

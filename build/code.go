package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/scanner"
	"go/token"
	"io"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// codes remembers the digest of the code behind each package, for one Builder.
type codes struct {
	mu    sync.Mutex
	known map[string]Input
	files map[string]string // digests, by path: most packages need the same ones
}

// codeInputs returns one input for the logic of a step: the Go files of the package that
// its type is in and of all packages of the module that this package needs, and go.sum
// for packages outside. A change to the code of a step thus changes its key without a
// version number; a change to comments does not.
func (b *Builder) codeInputs(s Step) ([]Input, error) {
	dir, ok := b.directoryOf(s)
	if !ok {
		return nil, nil
	}
	var only []string
	if d, ok := s.(Delegating); ok {
		only = d.Packages()
	}
	b.codes.mu.Lock()
	defer b.codes.mu.Unlock()
	if in, ok := b.codes.known[dir]; ok {
		return []Input{in}, nil
	}
	in, err := b.codeInput(dir, only)
	if err != nil {
		return nil, err
	}
	if b.codes.known == nil {
		b.codes.known = map[string]Input{}
	}
	b.codes.known[dir] = in
	return []Input{in}, nil
}

// directoryOf returns the directory, in the module, of the package that a step's type is
// in.
func (b *Builder) directoryOf(s Step) (string, bool) {
	if b.Code == nil {
		return "", false
	}
	t := reflect.TypeOf(s)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return strings.CutPrefix(t.PkgPath(), b.Code.Path()+"/")
}

// codeInput returns the input for the package in a directory: of the files of the packages in
// only, or of all that it needs for nil. All steps of a package have the same only.
func (b *Builder) codeInput(dir string, only []string) (Input, error) {
	files, err := b.Code.Files(dir, gosource.Host())
	if err != nil {
		return Input{}, err
	}
	var inputs []Input
	for _, f := range files {
		if ext := filepath.Ext(f.Name); ext != ".go" && ext != ".s" && f.Name != "go.sum" {
			continue // embedded targets and go.mod's comments are not logic
		}
		if only != nil && !slices.Contains(only, path.Dir(f.Name)) {
			continue
		}
		sum, err := b.codeDigest(f)
		if err != nil {
			return Input{}, fault.Wrap(fault.IO, err, "reading the code of package %s", dir)
		}
		inputs = append(inputs, Input{Name: f.Name, Digest: sum})
	}
	return Input{Name: "code/" + dir, Digest: keyOf(inputs)}, nil
}

// codeDigest returns the digest of a file of code, once in a build. The caller holds the
// lock of codes.
func (b *Builder) codeDigest(f gosource.File) (string, error) {
	if sum, ok := b.codes.files[f.Path]; ok {
		return sum, nil
	}
	info, err := os.Stat(f.Path)
	if err != nil {
		return "", err
	}
	digest := b.Cache.stats.Digest
	if filepath.Ext(f.Name) == ".go" {
		digest = b.Cache.stats.code
	}
	sum, err := digest(f.Path, info)
	if err != nil {
		return "", err
	}
	if b.codes.files == nil {
		b.codes.files = map[string]string{}
	}
	b.codes.files[f.Path] = sum
	return sum, nil
}

// digestCode returns the SHA-256 of the tokens of a Go file, in hex. Of the comments only
// directives such as //go:embed are among them.
func digestCode(r io.Reader) (string, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	var s scanner.Scanner
	set := token.NewFileSet()
	s.Init(set.AddFile("", -1, len(text)), text, nil, scanner.ScanComments)
	sum := sha256.New()
	for {
		_, tok, literal := s.Scan()
		switch {
		case tok == token.EOF:
			return hex.EncodeToString(sum.Sum(nil)), nil
		case tok == token.COMMENT && !strings.HasPrefix(literal, "//go:"):
			continue
		case tok == token.SEMICOLON:
			literal = "" // written or implied by the end of a line
		}
		_, _ = fmt.Fprintf(sum, "%d %d %s\n", tok, len(literal), literal) // a hash takes everything
	}
}

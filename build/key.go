package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Input is one thing that decides a step's result. A step's key is the digest of
// its inputs in order.
type Input struct {
	// Name is "type", "version", "field/NAME", "source/NAME", "source/NAME/FILE"
	// or "dep/STEP".
	Name string `json:"name"`
	// Digest is the SHA-256 in hex of the value as text, of a file's content (followed by
	// "+x" when it is executable) or of a dependency's output.
	Digest string `json:"digest"`
	// Value is the value itself when it is short.
	Value string `json:"value,omitempty"`
}

const shortValue = 160

func textInput(name, value string) Input {
	sum := sha256.Sum256([]byte(value))
	in := Input{Name: name, Digest: hex.EncodeToString(sum[:])}
	if len(value) <= shortValue {
		in.Value = value
	}
	return in
}

// keyOf returns the digest of inputs. The first line is the version of the scheme, so
// that a new scheme gives new keys.
func keyOf(inputs []Input) string {
	sum := sha256.New()
	sum.Write([]byte("step key 1\n"))
	for _, in := range inputs {
		sum.Write([]byte(in.Name + "\x00" + in.Digest + "\n"))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// ownInputs returns the inputs for type, version and exported fields.
func ownInputs(s Step) ([]Input, error) {
	t := reflect.TypeOf(s)
	v := reflect.ValueOf(s)
	if t.Kind() == reflect.Pointer {
		t, v = t.Elem(), v.Elem()
	}
	inputs := []Input{textInput("type", t.PkgPath()+"."+t.Name())}
	if n, ok := s.(Versioned); ok {
		inputs = append(inputs, textInput("version", strconv.Itoa(n.Version())))
	}
	fields, err := fieldInputs(s, t, v)
	return append(inputs, fields...), err
}

func fieldInputs(s Step, t reflect.Type, v reflect.Value) ([]Input, error) {
	if _, ok := s.(json.Marshaler); ok || t.Kind() != reflect.Struct {
		in, err := jsonInput("field", s)
		return []Input{in}, err
	}
	var inputs []Input
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || f.Tag.Get("json") == "-" {
			continue
		}
		in, err := jsonInput("field/"+f.Name, v.Field(i).Interface())
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

// jsonInput relies on encoding/json being canonical: it sorts the keys of maps
// and keeps the order of struct fields.
func jsonInput(name string, value any) (Input, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return Input{}, fmt.Errorf("writing %s as JSON (tag it `json:\"-\"` if it decides nothing): %w", name, err)
	}
	return textInput(name, string(data)), nil
}

// sourceInputs hashes the step's source files, through the stat cache.
func sourceInputs(s Step, stats *StatCache) ([]Input, error) {
	sourced, ok := s.(Sourced)
	if !ok {
		return nil, nil
	}
	sources, err := sourced.Sources()
	if err != nil {
		return nil, fmt.Errorf("listing sources: %w", err)
	}
	var inputs []Input
	for _, src := range sources {
		found, err := readSource(src, stats)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading source %s", src.Name)
		}
		inputs = append(inputs, found...)
	}
	slices.SortStableFunc(inputs, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(inputs); i++ {
		if inputs[i].Name == inputs[i-1].Name {
			return nil, fault.New(fault.Internal, "%s is listed twice", inputs[i].Name)
		}
	}
	return inputs, nil
}

// readSource lists a file, or the files of a directory and of those under it, of which one
// name counts once.
func readSource(src Source, stats *StatCache) ([]Input, error) {
	inputs, err := readPath(src.Name, src.Path, stats)
	for _, dir := range src.Under {
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		for _, in := range inputs {
			seen[in.Name] = true
		}
		var more []Input
		more, err = readPath(src.Name, dir, stats)
		inputs = append(inputs, slices.DeleteFunc(more, func(in Input) bool { return seen[in.Name] })...)
	}
	return inputs, err
}

func readPath(name, path string, stats *StatCache) ([]Input, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, missing(err)
	}
	if !info.IsDir() {
		in, err := fileInput("source/"+name, path, info, stats)
		return []Input{in}, err
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	var inputs []Input
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return missing(err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return missing(err)
		}
		in, err := fileInput("source/"+name+"/"+filepath.ToSlash(rel), path, info, stats)
		inputs = append(inputs, in)
		return err
	})
	return inputs, err
}

// missing gives the error for a file that does not exist its kind.
func missing(err error) error {
	if os.IsNotExist(err) {
		return fault.New(fault.Missing, "opening a source: %w", err)
	}
	return err
}

// fileInput describes one name of a source. Of the permissions only the bit that git
// keeps counts: clones made under different umasks are equal.
func fileInput(name, path string, info fs.FileInfo, stats *StatCache) (Input, error) {
	switch {
	case info.IsDir():
		return Input{Name: name, Digest: "directory"}, nil
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		return textInput(name, "link to "+to), err
	case !info.Mode().IsRegular():
		return Input{}, fault.New(fault.BadInput, "%s is neither a file, a directory nor a symbolic link", path)
	}
	digest, err := stats.Digest(path, info)
	if info.Mode()&0o111 != 0 {
		digest += "+x"
	}
	return Input{Name: name, Digest: digest}, err
}

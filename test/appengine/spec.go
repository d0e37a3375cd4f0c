package appengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// specName is the only format of a test.
const specName = "pv-test@1"

// Spec is a test.json (manual: Pantavisor Test Framework). Paths are relative to the
// file's directory.
type Spec struct {
	// Spec is "pv-test@1".
	Spec string `json:"#spec"`
	// Description is the test's objective in a line.
	Description string `json:"description"`
	// Setup is what runs before the test.
	Setup Setup `json:"setup"`
	// TestScript is the test: its standard output and error are the result.
	TestScript string `json:"test-script"`
	// Skip is "true" or "false"; a skipped test still runs when it is named.
	Skip string `json:"skip"`
}

// Setup is the initial state of a test.
type Setup struct {
	// Cmdline stands in for the kernel command line.
	Cmdline string `json:"cmdline"`
	// Config is the pantavisor.config.
	Config string `json:"pantavisor.config"`
	// PVS is a tarball with certificates for secure boot. Empty: none.
	PVS string `json:"pvs"`
	// Containers are those of the first revision.
	Containers Containers `json:"containers"`
	// ReadyScript runs before the status READY is waited for. Empty: none.
	ReadyScript string `json:"ready-script"`
}

// Containers are the sources of the first revision.
type Containers struct {
	// Control is the container that manages: one of the revision's, or empty.
	Control string `json:"control"`
	// Tarballs are exports, .pvr directories, or directories with a container.yaml, which are
	// built.
	Tarballs []string `json:"tarballs"`
	// URLs are clone URLs with the parts to take behind '#': http, https, file, or
	// directories and files as they are.
	URLs []string `json:"urls"`
}

// maxSpec bounds a test.json, in bytes.
const maxSpec = 1 << 20

// load reads and checks a test.json; every problem is told.
func load(file string) (*Spec, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fault.New(fault.Missing, "reading the test: %w", err)
	}
	if info.Size() > maxSpec {
		return nil, fault.New(fault.BadInput, "%s: larger than %d bytes", file, maxSpec)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the test")
	}
	s, err := parse(text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "%s", file)
	}
	return s, fault.Wrap(fault.BadInput, s.files(filepath.Dir(file)), "%s", file)
}

// parse reads a test.json. A comma behind the last member is taken, as in the
// manual's own example; unknown members are not.
func parse(text []byte) (*Spec, error) {
	dec := json.NewDecoder(bytes.NewReader(dropCommas(text)))
	dec.DisallowUnknownFields()
	s := &Spec{Skip: "false"}
	if err := dec.Decode(s); err != nil {
		return nil, fault.New(fault.BadInput, "reading the JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.BadInput, "reading the JSON: something follows the object")
	}
	if err := s.check(); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "checking the test")
	}
	return s, nil
}

// dropCommas blanks commas that only white space parts from a closing bracket.
func dropCommas(text []byte) []byte {
	out := slices.Clone(text)
	quoted, comma := false, -1
	for i := 0; i < len(out); i++ {
		c := out[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted, comma = !quoted, -1
		case quoted:
		case c == ',':
			comma = i
		case (c == '}' || c == ']') && comma >= 0:
			out[comma] = ' '
			comma = -1
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			comma = -1
		}
	}
	return out
}

// check finds what single members cannot tell.
func (s *Spec) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if s.Spec != specName {
		bad("#spec is %q; want %q", s.Spec, specName)
	}
	if s.Skip != "true" && s.Skip != "false" {
		bad(`skip is %q; want "true" or "false"`, s.Skip)
	}
	if s.TestScript == "" {
		bad("test-script is missing")
	}
	if s.Setup.Config == "" {
		bad("setup.pantavisor.config is missing")
	}
	return errors.Join(errs...)
}

// files tells which of the named files are not there.
func (s *Spec) files(dir string) error {
	var errs []error
	named := append([]string{s.TestScript, s.Setup.Config, s.Setup.PVS, s.Setup.ReadyScript}, s.Setup.Containers.Tarballs...)
	for _, name := range named {
		if name == "" {
			continue
		}
		if _, err := os.Stat(beside(dir, name)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// beside returns a path of a test.json.
func beside(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, filepath.FromSlash(name))
}

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/revision/trail"
)

// keyArguments is the key of the kernel's arguments, which other stores do not have.
const keyArguments = "arguments"

// extlinux is the file of loaders that start a kernel without a script (package
// revision/trail, Extlinux). Such a loader cannot mark that it has started a test:
// [Started] does that.
type extlinux struct{ dir string }

var _ form = extlinux{}

func (extlinux) decode(b []byte) ([]pair, error) {
	s := trail.ParseExtlinux(b)
	if s.Good == "" {
		return nil, errors.New("it has no entry for the last good revision")
	}
	out := []pair{{keyRev, s.Good}, {keyArguments, s.Arguments}}
	if s.Try != "" {
		out = append(out, pair{keyTry, s.Try})
	}
	if s.Tried {
		out = append(out, pair{keyTrying, s.Try})
	}
	return out, nil
}

// encode takes the arguments of the running kernel when those of the file are lost.
func (f extlinux) encode(pairs []pair) ([]byte, error) {
	s := trail.Extlinux{Good: get(pairs, keyRev), Try: get(pairs, keyTry), Arguments: get(pairs, keyArguments), DeviceTree: f.hasTree}
	s.Tried = s.Try != "" && s.Try == get(pairs, keyTrying)
	if s.Good == "" {
		s.Good = Factory
	}
	if s.Arguments == "" {
		line, err := os.ReadFile("/proc/cmdline")
		if err != nil {
			return nil, err
		}
		s.Arguments = foreign(string(line))
	}
	for _, rev := range []string{s.Good, s.Try} {
		if rev != "" && f.has(rev, "pv-initrd.img.0") {
			return nil, fmt.Errorf("revision %s has addons: the boot loader loads one initrd", rev)
		}
	}
	return s.Encode()
}

// foreign returns a command line without the words of the handshake.
func foreign(line string) string {
	var out []string
	for _, w := range strings.Fields(line) {
		if key, _, _ := strings.Cut(w, "="); key != "pv_rev" && key != "pv_try" && key != "rdinit" {
			out = append(out, w)
		}
	}
	return strings.Join(out, " ")
}

func (f extlinux) hasTree(rev string) bool { return f.has(rev, "pv-fdt.dtb") }

func (f extlinux) has(rev, file string) bool {
	_, err := os.Stat(filepath.Join(f.dir, "trails", rev, ".pv", file))
	return err == nil
}

// starter is a store whose loader cannot mark that a test has begun.
type starter interface{ started(rev string) error }

var (
	_ starter = (*file)(nil)
	_ starter = (*slots)(nil)
)

// Started marks that the test of the running revision has begun, for loaders that cannot
// do it themselves: without that the test would be repeated for ever. Process 1 calls it
// as soon as the storage is mounted.
func Started(s Store, r Running) error {
	if by, ok := s.(starter); ok && r.State == Trying {
		return by.started(r.Try)
	}
	return nil
}

func (f *file) started(rev string) error {
	if _, ok := f.form.(extlinux); !ok {
		return nil
	}
	return f.change(func(p []pair) []pair { return set(p, keyTrying, rev) })
}

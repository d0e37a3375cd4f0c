package oracle

import (
	"os"
	"path/filepath"
	"testing"
)

// outcome runs a function as a test of its own and says how it ended.
type outcome struct {
	fatal, skipped bool
}

func (o *outcome) Helper()               {}
func (o *outcome) Fatalf(string, ...any) { o.fatal = true; panic(o) }
func (o *outcome) Skipf(string, ...any)  { o.skipped = true; panic(o) }
func (o *outcome) run(f func(t TB)) *outcome {
	defer func() { _ = recover() }()
	f(o)
	return o
}

func judge(f func(t TB)) *outcome { o := &outcome{}; o.run(f); return o }

func TestMissingProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for ci, fatal := range map[string]bool{"": false, "true": true} {
		t.Setenv("CI", ci)
		if o := judge(func(t TB) { Need(t, "unsquashfs") }); o.fatal != fatal || o.skipped == fatal {
			t.Errorf("CI=%q: %+v", ci, o)
		}
		if o := judge(func(t TB) { Program(t, "not-of-ours") }); !o.skipped {
			t.Errorf("CI=%q, a program that nobody installs: %+v", ci, o)
		}
		if o := judge(func(t TB) { Emulator(t, []string{"firmware"}) }); o.fatal != fatal || o.skipped == fatal {
			t.Errorf("CI=%q, no firmware: %+v", ci, o)
		}
		if o := judge(func(t TB) { Emulator(t, nil) }); o.fatal || o.skipped {
			t.Errorf("CI=%q, nothing is missing: %+v", ci, o)
		}
	}
}

func TestRecordings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PV_SPEC_DIR", dir)
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := string(Read(t, "a")); got != "x" {
		t.Errorf("read %q", got)
	}
	if o := judge(func(t TB) { Recordings(t, "b") }); !o.fatal {
		t.Errorf("a missing recording below PV_SPEC_DIR: %+v", o)
	}
	t.Setenv("PV_SPEC_DIR", "")
	if o := judge(func(t TB) { Recordings(t, "no-such-file") }); !o.skipped {
		t.Errorf("no recordings: %+v", o)
	}
}

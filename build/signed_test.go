package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// signatures returns which of the files that sign are in a directory.
func signatures(dir string) (out []string) {
	for _, name := range SignatureNames() {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			out = append(out, name)
		}
	}
	return out
}

// TestSignaturesAreOfWhatIsThere: a delivery removes signatures when it changes what they sign,
// whether it signs or not.
func TestSignaturesAreOfWhatIsThere(t *testing.T) {
	s := &step{Label: "one", name: "image"}
	s.do = func(_ context.Context, w *Work) error {
		if s.Label == "broken" {
			return errors.New("broken")
		}
		return os.WriteFile(filepath.Join(w.Out, "file"), []byte(s.Label), 0o644)
	}
	b, _ := builder(t, t.TempDir())
	out := t.TempDir()
	sign := func(_ context.Context, dir string, r *Report) error {
		if len(r.Artefacts) != 1 || r.Artefacts[0].SHA256 == "" {
			t.Errorf("signed is %+v", r.Artefacts)
		}
		for _, name := range SignatureNames() {
			write(t, filepath.Join(dir, name), r.Artefacts[0].SHA256)
		}
		r.Signed = &Signed{Algorithm: "RSA", KeySHA256: "0123", Files: SignatureNames()}
		return nil
	}
	all := len(SignatureNames())
	for i, c := range []struct {
		label string
		to    string
		sign  func(context.Context, string, *Report) error
		left  int
		fails bool
	}{
		{"one", "x", nil, 0, false},
		{"one", "x", sign, all, false},
		{"one", "x", nil, all, false},   // what they sign is unchanged
		{"broken", "x", nil, all, true}, // and here too
		{"two", "x", nil, 0, false},
		{"two", "x", sign, all, false},
		{"two", "y", nil, 0, false},
		{"two", "y", sign, all, false},
		{"three", "y", func(context.Context, string, *Report) error { return errors.New("no token") }, 0, true},
	} {
		s.Label, b.Sign = c.label, c.sign
		r, err := b.Deliver(t.Context(), out, []Artefact{{s, "file", c.to}})
		if (err != nil) != c.fails || len(signatures(out)) != c.left {
			t.Errorf("%d: %v, %v", i, signatures(out), err)
		}
		if signed := err == nil && c.sign != nil; signed != (r.Signed != nil) || signed != strings.Contains(read(t, filepath.Join(out, ReportText)), "signed with the RSA key 0123") {
			t.Errorf("%d: the report has %+v", i, r.Signed)
		}
	}
}

// TestOtherListsOfDigests: one that is a result, or that somebody else keeps there, stays.
func TestOtherListsOfDigests(t *testing.T) {
	s := &step{Label: "one", name: "image"}
	b, _ := builder(t, t.TempDir())
	out := t.TempDir()
	write(t, filepath.Join(out, DetachedName), "mine")
	artefacts := []Artefact{{s, "file", SumsName}, {s, "file", "x"}}
	for _, label := range []string{"one", "two"} {
		s.Label = label
		if _, err := b.Deliver(t.Context(), out, artefacts); err != nil {
			t.Fatal(err)
		}
		if got := signatures(out); !slices.Equal(got, []string{SumsName, DetachedName}) {
			t.Errorf("%s: %v", label, got)
		}
	}
	b.Sign = func(context.Context, string, *Report) error { return nil }
	if _, err := b.Deliver(t.Context(), out, artefacts); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "are named SHA256SUMS") {
		t.Errorf("a result that is named as a signature: %v", err)
	}
	b.Incomplete = errors.New("a part lacks")
	b.Sign = func(context.Context, string, *Report) error { t.Error("an incomplete build is signed"); return nil }
	if _, err := b.Deliver(t.Context(), out, artefacts[1:]); !errors.Is(err, b.Incomplete) {
		t.Error(err)
	}
}

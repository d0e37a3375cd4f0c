package state

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

func decode[T any](t testing.TB, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRecordedGetAndMerge(t *testing.T) {
	local := parse(t, string(oracle.Read(t, "golden/pvr/merge/local-state.json")))
	source := parse(t, string(oracle.Read(t, "golden/pvr/merge/src-state.json")))
	type mergeCase struct {
		Cmd, Fragment string
		Documented    json.RawMessage
	}
	cases := decode[struct{ Cases []mergeCase }](t, oracle.Read(t, "golden/pvr/merge/cases.json"))
	if len(cases.Cases) == 0 {
		t.Fatal("no cases")
	}
	combine := map[string]func(a, b *State, f Fragment) (*State, error){"get": Get, "merge": Merge}
	for _, c := range cases.Cases {
		t.Run(c.Cmd+" "+c.Fragment, func(t *testing.T) {
			f, err := ParseFragment(c.Fragment)
			if err != nil {
				t.Fatal(err)
			}
			got, err := combine[c.Cmd](local, source, f)
			if err != nil {
				t.Fatal(err)
			}
			if want := parse(t, string(c.Documented)); !Equal(got, want) {
				t.Error(cmp.Diff(string(want.Pretty(pretty)), string(got.Pretty(pretty))))
			}
		})
	}
}

func TestRecordedInlineRule(t *testing.T) {
	rec := decode[struct{ Result map[string]json.RawMessage }](t, oracle.Read(t, "golden/pvr/json/inline-rule.json"))
	s := New("")
	for key, value := range rec.Result {
		if err := s.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range s.Objects() {
		// A JSON string of 64 hexadecimal digits cannot be told from an object.
		if IsInline(o.Path) != (o.Path == "hex.json") {
			t.Errorf("%s is an object", o.Path)
		}
	}
	if got := s.Inlines(); !cmp.Equal(got, []string{".json", "a.json", "nothex.json", "str.json", "sub/b.json"}) {
		t.Errorf("inline: %v", got)
	}
}

func TestRecordedStateIsCanonical(t *testing.T) {
	for _, name := range []string{"repo/state.canonical.json", "sig/state-3-strict.json"} {
		doc := oracle.Read(t, "golden/pvr/"+name)
		if got := parse(t, string(doc)).Encode(); string(got) != string(doc) {
			t.Errorf("%s: %s", name, cmp.Diff(string(doc), string(got)))
		}
	}
}

// FuzzParseRecorded starts from recorded states.
func FuzzParseRecorded(f *testing.F) {
	for _, name := range []string{"repo/state.canonical.json", "merge/src-state.json", "sig/state-2-lenient.json"} {
		f.Add(oracle.Read(f, "golden/pvr/"+name))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc)
		if err != nil {
			return
		}
		for _, part := range s.Parts() {
			if rest := RemovePackage(s, part); rest.Len() > s.Len() {
				t.Fatalf("removing %q adds keys", part)
			}
		}
		again, err := AddPackage(New(Spec), s)
		if err != nil {
			t.Fatalf("adding to an empty state: %v", err)
		}
		twice, err := AddPackage(again, s)
		if err != nil || !Equal(again, twice) {
			t.Fatalf("adding twice differs: %v", err)
		}
	})
}

package forms_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom/forms"
	"github.com/pantavisor/pantavisor/sbom/sbomtest"
)

// TestBetween writes a document in each form, reads it, writes it in each other one, and so on: none of
// them loses what the others say.
func TestBetween(t *testing.T) {
	t.Parallel()
	want := sbomtest.Full()
	for _, first := range forms.Names() {
		for _, second := range forms.Names() {
			got := want
			for _, name := range []string{first, second} {
				form, err := forms.Parse(name)
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if err := forms.Write(&b, got, form); err != nil {
					t.Fatal(err)
				}
				if found, err := forms.Detect(b.Bytes()); found != form || err != nil {
					t.Errorf("%s is detected as %q, %v", form, found, err)
				}
				if got, err = forms.Read(&b); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s: %s", first, second, diff)
			}
		}
	}
}

func TestCompressed(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := forms.Write(z, sbomtest.Full(), forms.SPDX); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := forms.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sbomtest.Full(), got); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	_, err := forms.Parse("cyclondx")
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "did you mean cyclonedx") {
		t.Error(err)
	}
	if err := forms.Write(io.Discard, sbomtest.Full(), "xml"); fault.Of(err) != fault.BadInput {
		t.Error(err)
	}
	for in, want := range map[string]string{
		"": "not JSON", "{": "not JSON", "[]": "neither of SPDX", "{}": "neither of SPDX", `{"@context":"https://schema.org"}`: "neither of SPDX",
		`{"@context":"https://spdx.org/rdf/2.9/x"}`: "its @context is not that of SPDX 3.0", `{"spdxVersion":7}`: "cannot unmarshal",
	} {
		if _, err := forms.Read(strings.NewReader(in)); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", in, err, want)
		}
	}
}

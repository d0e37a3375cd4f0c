package canon

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

type vector struct {
	Name      string  `json:"name"`
	Input     string  `json:"input"`
	Canonical *string `json:"canonical"`
	Pretty    *string `json:"checkout_pretty"`
	Quirk     string  `json:"quirk"`
	Stderr    string  `json:"stderr"`
}

func TestRecordedVectors(t *testing.T) {
	t.Parallel()
	var vectors []vector
	if err := json.Unmarshal(oracle.Read(t, "golden/pvr/json/vectors.json"), &vectors); err != nil {
		t.Fatal(err)
	}
	for _, c := range vectors {
		t.Run(c.Name, func(t *testing.T) { checkVector(t, c) })
	}
}

func checkVector(t *testing.T, c vector) {
	v, err := First([]byte(c.Input))
	if c.Canonical == nil {
		want := strings.TrimSuffix(strings.TrimPrefix(c.Stderr, "JSON Unmarshal (v.json): "), "\n")
		if err == nil || err.Error() != want {
			t.Fatalf("error %v, want %s", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := string(v.Encode()); got != *c.Canonical {
		t.Errorf("canonical %s, want %s", got, *c.Canonical)
	}
	// Recorded with a quirk: the present tool loses null members on commit; here
	// they are kept, so the checked-out text differs.
	if c.Pretty != nil && c.Quirk == "" {
		if got := string(v.Pretty(Checkout)); got != *c.Pretty {
			t.Errorf("checkout form %s, want %s", got, *c.Pretty)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"0": "0", "-0": "0", "-0.000": "0", "0e999999999999": "0", "0.0e-99999999999": "0",
		"100": "100", "-100": "-100", "1.0": "1", "10.50": "1.05E1", "0.1": "1.0E-1", "-0.25": "-2.5E-1",
		"1e3": "1000", "1.5e1": "15", "123456e-3": "1.23456E2", "99.99": "9.999E1", "5e-324": "5.0E-324",
		"1200e-2": "12", "0.001e3": "1", "0.00120e1": "1.2E-2", "9007199254740993": "9007199254740993",
	}
	for in, want := range cases {
		got, err := Canonical([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"exponent":       "1e999999999",
		"large exponent": "1e5000",
		"tiny":           "1e-999999999999",
		"digits":         strings.Repeat("7", maxDigits+1),
		"depth":          strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
		"objects":        strings.Repeat(`{"a":`, maxDepth+1),
		"values":         "[" + strings.Repeat("0,", 2*someValues) + "0]",
		"size":           `"` + strings.Repeat("x", MaxSize) + `"`,
	} {
		if _, err := First([]byte(in)); !errors.Is(err, ErrBounds) {
			t.Errorf("%s: error %v, want a bounds error", name, err)
		}
	}
	deep := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	if _, err := Parse([]byte(deep)); err != nil {
		t.Errorf("at the bound: %v", err)
	}
}

func TestParseIsStrict(t *testing.T) {
	t.Parallel()
	if _, err := Parse([]byte(`{"x":{"a":1,"a":1}}`)); !errors.Is(err, errDuplicate) {
		t.Errorf("duplicate: %v", err)
	}
	// An escape is no way round the check.
	if _, err := Parse([]byte(`{"a":1,"\u0061":2}`)); !errors.Is(err, errDuplicate) {
		t.Errorf("escaped duplicate: %v", err)
	}
	if _, err := Parse([]byte(`{} {}`)); err == nil || !strings.Contains(err.Error(), "after top-level value") {
		t.Errorf("trailing value: %v", err)
	}
	if _, err := Parse([]byte(" {} \n")); err != nil {
		t.Errorf("white space: %v", err)
	}
	if _, err := Parse(nil); !errors.Is(err, io.EOF) {
		t.Errorf("empty: %v", err)
	}
}

func TestAccessors(t *testing.T) {
	t.Parallel()
	v, err := Parse([]byte(`{"s":"x","n":1.0,"b":true,"l":[1,null],"o":{"z":1,"a":2}}`))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := v.Get("s")
	n, _ := v.Get("n")
	b, _ := v.Get("b")
	l, _ := v.Get("l")
	if text, ok := s.Text(); !ok || text != "x" {
		t.Errorf("text %q %v", text, ok)
	}
	if num, ok := n.Number(); !ok || num != "1" {
		t.Errorf("number %q %v", num, ok)
	}
	if val, ok := b.Bool(); !ok || !val {
		t.Errorf("bool %v %v", val, ok)
	}
	if len(l.Elems()) != 2 || !l.Elems()[1].IsNull() {
		t.Errorf("elements %v", l.Elems())
	}
	if _, ok := v.Get("missing"); ok {
		t.Error("a missing member is found")
	}
	built := Obj(Member{"z", Boolean(false)}, Member{"a", Str("old")}, Member{"a", List(Str("new"))})
	if got := string(built.Encode()); got != `{"a":["new"],"z":false}` {
		t.Errorf("built %s", got)
	}
	if l.Kind().String() != "array" || Kind(99).String() != "unknown" {
		t.Error("kind names")
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	same := [][2]string{{`{"a":1.0}`, `{ "a" : 1 }`}, {`[1e2]`, `[100]`}, {`"\u0061"`, `"a"`}}
	differ := [][2]string{{`{"a":1}`, `{"a":2}`}, {`{"a":1}`, `{"b":1}`}, {`[1]`, `[1,1]`}, {`[1]`, `[2]`}, {`null`, `{}`}}
	for _, c := range same {
		if !equalTexts(t, c) {
			t.Errorf("%s and %s differ", c[0], c[1])
		}
	}
	for _, c := range differ {
		if equalTexts(t, c) {
			t.Errorf("%s and %s are equal", c[0], c[1])
		}
	}
}

func equalTexts(t *testing.T, pair [2]string) bool {
	t.Helper()
	a, errA := Parse([]byte(pair[0]))
	b, errB := Parse([]byte(pair[1]))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	return Equal(a, b)
}

func TestInvalidUTF8BecomesReplacement(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"\"a\xff\xfeb\"":    "\"a\uFFFD\uFFFDb\"",
		"\"\\n\xff\xfeb\"":  "\"\\n\uFFFD\uFFFDb\"",
		`"\ud800\ud800"`:    "\"\uFFFD\uFFFD\"",
		`"\ud83d\ude00\/"`:  "\"😀/\"",
		"\"\xed\xa0\x80\"":  "\"\uFFFD\uFFFD\uFFFD\"",
		`"\ud83d\u0041\\n"`: "\"\uFFFDA\\\\n\"",
	} {
		if got, err := Canonical([]byte(in)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// FuzzCanonical compares with the standard library as an oracle and checks that
// the canonical form is a fixed point.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.50,-0,1e3,"\u00e9\ud83d\ude00"],"b":{"":null}}`, `[true,false,null]`, `"\u0000\/"`, "01", "{\"a\":1,}", "1E-7", `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := First(in)
		var raw json.RawMessage
		stdErr := json.NewDecoder(bytes.NewReader(in)).Decode(&raw)
		if err != nil {
			if stdErr == nil && !errors.Is(err, ErrBounds) {
				t.Fatalf("refused %q: %v", in, err)
			}
			return
		}
		out := v.Encode()
		if !json.Valid(out) {
			t.Fatalf("%q became %q", in, out)
		}
		again, err := Parse(out)
		if err != nil || !bytes.Equal(again.Encode(), out) || !Equal(v, again) {
			t.Fatalf("not a fixed point: %q %v", out, err)
		}
		pretty, err := Parse(v.Pretty(Checkout))
		if err != nil || !Equal(v, pretty) {
			t.Fatalf("checkout form of %q differs: %v", out, err)
		}
	})
}

// FuzzCanonicalRecorded starts from the recorded vectors.
func FuzzCanonicalRecorded(f *testing.F) {
	var vectors []vector
	if err := json.Unmarshal(oracle.Read(f, "golden/pvr/json/vectors.json"), &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		f.Add(v.Input)
	}
	f.Fuzz(func(t *testing.T, in string) {
		v, err := First([]byte(in))
		if err != nil {
			return
		}
		if out, err := Canonical(v.Encode()); err != nil || !bytes.Equal(out, v.Encode()) {
			t.Fatalf("%q: %q, %v", in, out, err)
		}
	})
}

// What Document returns, Parse takes, and what Parse would reject, Document rejects: at
// each bound.
func TestDocumentHasTheBoundsOfParse(t *testing.T) {
	nested := func(depth int) Value {
		v := Value{}
		for range depth {
			v = List(v)
		}
		return v
	}
	zero := Value{kind: Number, text: "0"}
	zeros := func(count int) Value { return List(slices.Repeat([]Value{zero}, count)...) }
	// n zeros are n+1 values in 2n+1 bytes; most has just as many as are allowed.
	most := 0
	for n := someValues; n+1 <= maxValues(2*n+1); n++ {
		most = n
	}
	for name, c := range map[string]struct {
		v  Value
		ok bool
	}{
		"deep": {nested(maxDepth), true}, "too deep": {nested(maxDepth + 1), false},
		"many": {zeros(most), true}, "too many": {zeros(most + 1), false},
	} {
		text, err := c.v.Document()
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrBounds) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			text = c.v.Encode()
		}
		if _, err := Parse(text); c.ok != (err == nil) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
}

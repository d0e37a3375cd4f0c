package canon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// canonicalNumber is the grammar of numbers in canonical form: whole ones have no
// exponent, others one digit before the point.
var canonicalNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*|-?[1-9]\.([0-9]*[1-9]|0)E-?[0-9]+)$`)

// randomNumber returns digits, a fraction and an exponent as JSON allows them.
func randomNumber(r *rand.Rand) string {
	digits := func(n int) (s string) {
		for range n {
			s += string("0001239"[r.IntN(7)])
		}
		return s
	}
	text := strings.TrimLeft(digits(1+r.IntN(25)), "0")
	if text == "" {
		text = "0"
	}
	if r.IntN(2) == 0 {
		text += "." + digits(1+r.IntN(25))
	}
	if r.IntN(2) == 0 {
		text += []string{"e", "E", "e+", "E-", "e-0"}[r.IntN(5)] + fmt.Sprint(r.IntN(60))
	}
	if r.IntN(2) == 0 {
		text = "-" + text
	}
	return text
}

// A number keeps its exact value, and two texts of one value have one canonical form.
func TestNumbersKeepTheirValue(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	forms := map[string]string{}
	for range 20000 {
		in := randomNumber(r)
		out, err := Canonical([]byte(in))
		if err != nil || !canonicalNumber.Match(out) {
			t.Fatalf("%s: %s, %v", in, out, err)
		}
		want, ok := new(big.Rat).SetString(in)
		got, ok2 := new(big.Rat).SetString(string(out))
		if !ok || !ok2 || want.Cmp(got) != 0 {
			t.Fatalf("%s became %s", in, out)
		}
		value := want.RatString()
		if other, seen := forms[value]; seen && other != string(out) {
			t.Fatalf("%s has the forms %s and %s", value, other, out)
		}
		forms[value] = string(out)
	}
}

// The point may be moved against the exponent.
func TestOneFormOfAValue(t *testing.T) {
	t.Parallel()
	for _, texts := range [][]string{
		{"1200", "12e2", "1.2E+3", "0.0012e6", "1200.000", "12000e-1", "1.2000e003"},
		{"-0.5", "-5e-1", "-0.05E1", "-500e-3", "-0.500"},
		{"0", "-0", "0.0", "-0e9", "0E-9", "0e+0"},
	} {
		want, err := Canonical([]byte(texts[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts[1:] {
			if got, err := Canonical([]byte(text)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s, %v; want %s", text, got, err, want)
			}
		}
	}
}

// Digits are allowed up to the bound, wherever the point is.
func TestDigitsAtTheBound(t *testing.T) {
	t.Parallel()
	most := strings.Repeat("7", maxDigits)
	for text, ok := range map[string]bool{
		most: true, most + "7": false,
		"0." + most: true, "0." + most + "7": false,
		"7e" + fmt.Sprint(maxDigits-1): true, "7e" + fmt.Sprint(maxDigits): false,
		most + strings.Repeat("0", 1):  false,
		"0e" + strings.Repeat("9", 99): true,
		"1e-9999999":                   true,
	} {
		_, err := Canonical([]byte(text))
		if ok && err != nil || !ok && !errors.Is(err, ErrBounds) {
			t.Errorf("%.20s of %d bytes: %v", text, len(text), err)
		}
	}
}

// Every character means the same escaped, as a pair of surrogates and as it is.
func TestEveryCharacter(t *testing.T) {
	t.Parallel()
	var plain, escaped strings.Builder
	for r := rune(1); r <= utf8.MaxRune; r += 1 + r/300 {
		if !utf8.ValidRune(r) {
			continue
		}
		if r >= ' ' && r != '"' && r != '\\' {
			plain.WriteRune(r)
		} else {
			fmt.Fprintf(&plain, `\u%04X`, r)
		}
		if r > 0xffff {
			high, low := 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff
			fmt.Fprintf(&escaped, `\u%04x\u%04X`, high, low)
		} else {
			fmt.Fprintf(&escaped, `\u%04x`, r)
		}
	}
	one, errOne := Canonical([]byte(`"` + plain.String() + `"`))
	two, errTwo := Canonical([]byte(`"` + escaped.String() + `"`))
	if err := errors.Join(errOne, errTwo); err != nil || !bytes.Equal(one, two) {
		t.Errorf("%v: the canonical forms have %d and %d bytes", err, len(one), len(two))
	}
	var want, got string
	if err := errors.Join(json.Unmarshal([]byte(`"`+escaped.String()+`"`), &want), json.Unmarshal(one, &got)); err != nil || want != got {
		t.Errorf("encoding/json reads another text: %v", err)
	}
}

// Halves of surrogate pairs stand alone, are turned round or are cut short; the
// standard library says what each means.
func TestSurrogates(t *testing.T) {
	t.Parallel()
	pieces := []string{`\ud83d`, `\ude00`, `\uDBFF`, `\uDFFF`, `A`, `\n`, `\u0041`, `é`, ``}
	for _, a := range pieces {
		for _, b := range pieces {
			for _, c := range pieces {
				text := []byte(`"` + a + b + c + `"`)
				var want string
				if err := json.Unmarshal(text, &want); err != nil {
					t.Fatal(err)
				}
				v, err := First(text)
				if got, ok := v.Text(); err != nil || !ok || got != want {
					t.Errorf("%s: %q, %v; want %q", text, got, err, want)
				}
			}
		}
	}
}

// The order of members in the text has no influence, and names are sorted by bytes.
func TestMembersAreSorted(t *testing.T) {
	t.Parallel()
	names := []string{"", "#spec", "A", "a", "a/b", "a.json", "aa", "é", "\u2028", "😀", "\ue000", "zz"}
	r := rand.New(rand.NewPCG(3, 4))
	var first []byte
	for range 50 {
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		var members []string
		for _, n := range names {
			quoted, _ := json.Marshal(n)
			members = append(members, string(quoted)+":1")
		}
		out, err := Canonical([]byte("{" + strings.Join(members, " , ") + "}"))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = out
		}
		if !bytes.Equal(out, first) {
			t.Fatalf("%s and %s", first, out)
		}
	}
	v, err := Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	byBytes := func(a, b Member) int { return strings.Compare(a.Name, b.Name) }
	if members := v.Members(); len(members) != len(names) || !slices.IsSortedFunc(members, byBytes) {
		t.Errorf("members %s", first)
	}
}

// sample has every kind of value and of character.
const sample = `{"a":[1,-2.5e+3,true,false,null,"x\n\u00e9\ud83d\ude00\"\\"],"b":{"":{}},"c":[]} `

// A text that ends early is refused wherever it ends.
func TestCutShort(t *testing.T) {
	t.Parallel()
	for n := range len(sample) - 1 {
		_, err := First([]byte(sample[:n]))
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", sample[:n], err)
		}
	}
}

// Whatever byte is put in place of another, the text is taken or refused as the
// standard library does, and what is taken means the same.
func TestEveryWrongByte(t *testing.T) {
	t.Parallel()
	for i := range len(sample) {
		for c := range 256 {
			text := []byte(sample)
			text[i] = byte(c)
			var want any
			d := json.NewDecoder(bytes.NewReader(text))
			d.UseNumber()
			stdErr := d.Decode(&want)
			v, err := First(text)
			if (err == nil) != (stdErr == nil) {
				t.Fatalf("%q: %v, encoding/json: %v", text, err, stdErr)
			}
			if err == nil {
				sameMeaning(t, text, v, want)
			}
		}
	}
}

// sameMeaning compares a value with what encoding/json read.
func sameMeaning(t *testing.T, text []byte, v Value, want any) {
	t.Helper()
	encoded, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := First(encoded)
	if err != nil || !Equal(v, again) {
		t.Fatalf("%q means %s, encoding/json reads %s (%v)", text, v.Encode(), encoded, err)
	}
}

// All layouts hold the same value; only the one for checkouts escapes for HTML.
func TestLayouts(t *testing.T) {
	t.Parallel()
	v, err := First([]byte(`{"t":"<a>&\u2028\u2029\u001f","e":{},"l":[],"n":[1,{"x":[2]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Style{Checkout, Tabs, {}, {Prefix: "\t", Indent: "  "}} {
		text := v.Pretty(s)
		again, err := Parse(text)
		if err != nil || !Equal(v, again) {
			t.Errorf("%+v: %s, %v", s, text, err)
		}
		if html := !bytes.ContainsAny(text, "<>&\u2028\u2029"); html != s.HTML {
			t.Errorf("%+v: %s", s, text)
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			if i > 0 && !bytes.HasPrefix(line, []byte(s.Prefix)) {
				t.Errorf("%+v: line %q", s, line)
			}
		}
	}
	std, _ := json.MarshalIndent(json.RawMessage(v.Encode()), "", "    ")
	if got := v.Pretty(Checkout); !bytes.Equal(bytes.ToLower(got), bytes.ToLower(std)) {
		t.Errorf("checkout form\n%s\nof encoding/json\n%s", got, std)
	}
}

package pvs

import (
	"errors"
	"strings"
	"testing"
)

func TestDeviceSyntax(t *testing.T) {
	cases := []struct {
		pattern, match, differ string // keys, blank-separated
	}{
		{"app/**", "app app/x app/b/c", "apps/x ap"},
		{"**", "", "x a/b #spec"},
		{"**/src.json", "app/src.json", "src.json app/b/src.json"},
		{"app/**/x", "app/b/x", "app/x app/b/c/x"},
		{"a?p/[r-s]*.json", "app/run.json app/src.json", "app/x/run.json app/lxc.json"},
		{"{a,b}", "{a,b}", "a b"},
		{`a\*`, "a*", "ab"},
		{"#spec", "#spec", "spec"},
		{"*/**", "app app/x app/y/z", ""},
	}
	for _, c := range cases {
		checkPattern(t, Device, c.pattern, c.match, c.differ)
	}
}

func checkPattern(t *testing.T, s Syntax, pattern, match, differ string) {
	t.Helper()
	p, err := s.Compile(pattern)
	if err != nil {
		t.Errorf("%s: %v", pattern, err)
		return
	}
	for _, key := range strings.Fields(match) {
		if !p.Match(key) {
			t.Errorf("%s does not match %s", pattern, key)
		}
	}
	for _, key := range strings.Fields(differ) {
		if p.Match(key) {
			t.Errorf("%s matches %s", pattern, key)
		}
	}
}

func TestSignerSyntax(t *testing.T) {
	cases := []struct{ pattern, match, differ string }{
		{"a/**/b/**/c", "a/b/c a/x/b/y/z/c a/b/b/c", "a/c a/b"},
		{"**/a/b", "a/b x/a/b a/a/b", "a/b/c"},
		{"{a,b{c,d}}/x", "a/x bc/x bd/x", "b/x"},
		{"x{,.bak}", "x x.bak", "x."},
		{"[{]x", "{x", "x"},
		{`\{x\}`, "{x}", "x"},
		{`[\]a]`, "] a", "b"},
		{"ü?", "üß", "ü"},
		{"*a*b*c", "abc xaxbxc aabbcc", "acb ab"},
		{"[a-]", "a -", "b"},
		{"{**/x,y}", "a/x y", "x a/b/x"},
		{"{**,y}", "a y", "a/b"},
		{"a/{**}/x", "a/b/x", "a/x a/b/c/x"},
		{"{a/**,b}", "a/x a/b/c b", "a b/x"},
		{"{a/,}**", "a/x a/b/c d", "d/e"},
		{"{a/*,y}{*,x}", "a/b y yz", "a/b/c y/z"},
		{"{a,{**/b,c}}", "a x/b c", "b x/y/b"},
		{"{a,b}/**", "a/x b/x/y", "a b"},
		{"**/{x,y}", "x a/b/y", "x/a"},
	}
	for _, c := range cases {
		checkPattern(t, Signer, c.pattern, c.match, c.differ)
	}
}

func TestMalformedPatterns(t *testing.T) {
	many := strings.Repeat("{a,b}", 10)
	for _, text := range []string{"[", "a/[b", "[^/]x", "[]", "[^]", "[a", "{a", "{a,{b}", `a\`, `[\`, `x/[a\`, many, strings.Repeat("{", 20) + strings.Repeat("}", 20)} {
		if _, err := Signer.Compile(text); !errors.Is(err, ErrPattern) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"[", "[a/**", `a\`} {
		if _, err := Device.Compile(text); !errors.Is(err, ErrPattern) {
			t.Errorf("device %s: %v", text, err)
		}
	}
}

// TestManyStars would not end if the matcher tried all ways.
func TestManyStars(t *testing.T) {
	p, err := Signer.Compile(strings.Repeat("*a", 50) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if p.Match(strings.Repeat("a", 250)) {
		t.Error("it matches")
	}
	if p, err = Signer.Compile(strings.Repeat("**/a/", 50) + "b"); err != nil || p.Match(strings.Repeat("a/", 500)+"a") {
		t.Errorf("it matches, %v", err)
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"app/**", "app/x"}, {"[^a]*", "b"}, {"{a,b}/**/x", "a/b/x"}, {`\`, "x"}, {"[a-\\]]", "]"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		for _, s := range []Syntax{Signer, Device} {
			p, err := s.Compile(pattern)
			if err != nil {
				continue
			}
			p.Match(key)
		}
		if key == "" || strings.ContainsAny(key, `*?[]{}\`) {
			return
		}
		if p, err := Signer.Compile(key); err != nil || !p.Match(key) {
			t.Fatalf("%q does not match itself: %v", key, err)
		}
	})
}

package container

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var patterns = []string{"/sys", "/sys.*", "/(a|b)/c", "/a|/b", "/[a-c]+", "/[^/]*/x", `/a\.b`, "/a?b{2}", "/a{1,2}", "/a{2,}", "", "(a*)*b", "[]a]+", "^/x$", "/v(ar(/log)?)?", "/é+"}

// TestPatternAgreesWithPackage compares with package regexp, which the device does
// without.
func TestPatternAgreesWithPackage(t *testing.T) {
	texts := []string{"", "/", "/sys", "/sysx", "/sys/fs", "x/sys", "/a/c", "/b/c", "/a", "/b", "/abc", "/abd", "/q/x", "/q/r/x", "/a.b", "/axb", "/abb", "/bb", "/aa",
		"/aaa", "/aaaa", "aaab", "]", "a]a", "/x", "/var", "/var/log", "/v", "/éé"}
	for _, p := range patterns {
		re, err := compilePattern(p)
		if err != nil {
			t.Errorf("%q: %v", p, err)
			continue
		}
		want := regexp.MustCompile("^(?:" + p + ")$")
		for _, s := range texts {
			if got := re.match(s); got != want.MatchString(s) {
				t.Errorf("%q matches %q: %v", p, s, got)
			}
		}
	}
}

func TestBadPatterns(t *testing.T) {
	for _, p := range []string{"(", ")", "[", "[a", "*", "a{", "a{x}", "a{3,2}", `a\`, "[[:alpha:]]", strings.Repeat("(", 100)} {
		if _, err := compilePattern(p); err == nil {
			t.Errorf("%q was taken", p)
		}
	}
}

func TestPatternEnds(t *testing.T) {
	re, err := compilePattern("(a*)*(a*)*(a*)*b")
	if err != nil {
		t.Fatal(err)
	}
	if re.match(strings.Repeat("a", 200)) {
		t.Error("it matches without a b")
	}
}

func FuzzPattern(f *testing.F) {
	for _, p := range patterns {
		f.Add(p, "/a/b")
	}
	f.Fuzz(func(t *testing.T, p, s string) {
		re, err := compilePattern(p)
		if err != nil || len(s) > 40 || !utf8.ValidString(p+s) || strings.ContainsAny(p, `\{[`) || strings.Contains(s, "\n") {
			return
		}
		want, err := regexp.CompilePOSIX("^(" + p + ")$")
		if err != nil {
			return
		}
		tr := &try{text: s}
		got := re.root(tr, 0, func(at int) bool { return at == len(s) })
		if got != want.MatchString(s) && tr.steps <= patternSteps {
			t.Errorf("%q matches %q: %v", p, s, got)
		}
	})
}

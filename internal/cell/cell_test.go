package cell

import (
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`plain "text"`: `plain "text"`, "ü → x": "ü → x", "\x1b[2J": `\x1b[2J`, "a\nb": `a\nb`, "\xff": `\xff`, "\u202egnp": `\u202egnp`, "\"\n": `"\n`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain 1.2": "plain 1.2", "@maintainer": "` @maintainer `", "[a](https://x)": "` [a](https://x) `", "www.x": "` www.x `", "a`b": "` a'b `",
		"a|b": "` a\\|b `", `a\|b`: "` a\\\\\\|b `", "<img>": "` <img> `",
	} {
		if got := Markdown(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// FuzzMarkdown checks that no text ends its cell or the code in it.
func FuzzMarkdown(f *testing.F) {
	f.Add(`a\\|b`)
	f.Fuzz(func(t *testing.T, text string) {
		got := Markdown(Printable(text))
		if strings.ContainsAny(got, "\n\r\x1b") {
			t.Fatalf("%q breaks the line", got)
		}
		if inside, ok := strings.CutPrefix(got, "` "); ok && strings.Contains(strings.TrimSuffix(inside, " `"), "`") {
			t.Fatalf("%q ends the code", got)
		}
		for i := range len(got) {
			if got[i] != '|' {
				continue
			}
			n := 0
			for n < i && got[i-1-n] == '\\' {
				n++
			}
			if n%2 == 0 {
				t.Fatalf("%q ends the cell", got)
			}
		}
	})
}

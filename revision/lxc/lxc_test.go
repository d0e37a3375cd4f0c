package lxc

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/octal"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		``:                                     nil,
		`/a  b`:                                {"/a", "b"},
		`/e "-x" "c1""c 2"`:                    {"/e", "-x", "c1", "c 2"},
		`/a 'x "y"' ""`:                        {"/a", `x "y"`, ""},
		`/a x'y' b`:                            {"/a", "x'y'", "b"},
		`"/a b" c`:                             {"/a b", "c"},
		`/a "b"c`:                              {"/a", "b", "c"},
		`/s "-c" "echo "q" 's' $X \n"`:         {"/s", "-c", `echo "q" 's' $X \n`},
		`/s "-c" "echo "daemon off;"; exec x"`: {"/s", "-c", `echo "daemon off;"; exec x`},
		`/e "-x" "say "hi" to""c 2"`:           {"/e", "-x", `say "hi" to`, "c 2"},
	} {
		got, err := Split(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", line, d)
		}
	}
	if _, err := Split(`/a "b`); err == nil {
		t.Error("a quote that is not closed")
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		entry, command []string
		want           string
		ok             bool
	}{
		{nil, []string{"/a", "b c", ""}, `/a "b c" ""`, true},
		{[]string{"/a", "x"}, []string{"y", "z"}, `/a "x" "y""z"`, true},
		{nil, []string{"/a", `"q"`}, `/a '"q"'`, true},
		{nil, []string{"/a", "it's"}, `/a "it's"`, true},
		{nil, []string{"/a", `"q" it's`}, `/a ""q" it's"`, true},
		{nil, []string{"/a", `say "q", it's`}, `/a "say "q", it's"`, true},
		{nil, []string{"/My App/run"}, `/My App/run`, false},
		{nil, []string{`"a"`}, `"a"`, false},
		{nil, []string{"/a", "two\nlines"}, "/a \"two\nlines\"", false},
		{nil, []string{"/a", "ends ", " \t"}, `/a "ends " "` + " \t" + `"`, true},
	} {
		if got, ok := Join(c.entry, c.command); got != c.want || ok != c.ok {
			t.Errorf("%q %q: %s, %v; want %s, %v", c.entry, c.command, got, ok, c.want, c.ok)
		}
	}
}

func TestEscapes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "/a", "/my data", "/a\tb\nc\rd\\e#f\v\f", `/a\040b`, "/ä:ö,ü"} {
		if got := octal.Unescape(Escape(s)); got != s {
			t.Errorf("%q is read as %q", s, got)
		}
	}
	if got := EscapeBlanks(`/a\040b c`); got != `/a\040b\040c` {
		t.Errorf("%s", got)
	}
}

// FuzzJoin writes any words and reads them.
func FuzzJoin(f *testing.F) {
	f.Add("/a", "b c", `"`)
	f.Add("/a", `" "`, `'`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if line, ok := Join([]string{a}, []string{b, c}); ok {
			got, err := Split(line)
			if err != nil || !slices.Equal(got, []string{a, b, c}) {
				t.Errorf("%q is read as %q, %v", line, got, err)
			}
		}
	})
}

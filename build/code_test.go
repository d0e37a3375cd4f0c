package build

import (
	"strings"
	"testing"
)

func TestDigestOfCode(t *testing.T) {
	t.Parallel()
	digest := func(text string) string {
		sum, err := digestCode(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	const code = "package p\n\n// F adds.\nfunc F() int { return 1 + 1 }\n"
	for _, same := range []string{
		"package p\n\n// F sums.\nfunc F() int { return 1 + 1 }\n",
		"// Package p adds.\npackage p\n\nfunc F() int { return 1 + /* one */ 1 } // two\n// end",
	} {
		if digest(same) != digest(code) {
			t.Errorf("another digest for\n%s", same)
		}
	}
	for _, other := range []string{
		"package p\n\n// F adds.\nfunc F() int { return 1 + 2 }\n",
		"package p\n\n//go:noinline\nfunc F() int { return 1 + 1 }\n",
		"package p\n\nfunc F() int { return 1 \n + 1 }\n",
		"package p\n\nfunc F() int { return 1 + 1 }\n// \nvar x = \"// F adds.\"\n",
	} {
		if digest(other) == digest(code) {
			t.Errorf("the same digest for\n%s", other)
		}
	}
}

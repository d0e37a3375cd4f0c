package compat

import (
	"cmp"
	"strings"
)

// isVersion reports whether a text can be the version of a declaration.
func isVersion(text string) bool {
	for i := range len(text) {
		if c := text[i]; !letter(c) && !digit(c) && (i == 0 || strings.IndexByte(".+-_~", c) < 0) {
			return false
		}
	}
	return text != ""
}

// compareVersions returns -1, 0 or 1 as Debian compares versions without an epoch: runs
// of digits count as numbers, letters come before other characters, and ~ comes before
// everything, the end of the version too. So 6.6.31-v8 is newer than 6.6.31, and 1.10
// newer than 1.9. Two things are added: a v before the first digit does not count, and -rc
// counts as ~rc, because the kernel's release candidates come before the release.
func compareVersions(a, b string) int {
	a, b = normal(a), normal(b)
	for a != "" || b != "" {
		wordA, restA := run(a, false)
		wordB, restB := run(b, false)
		if c := compareWords(wordA, wordB); c != 0 {
			return c
		}
		numberA, restA := run(restA, true)
		numberB, restB := run(restB, true)
		if c := compareNumbers(numberA, numberB); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return 0
}

func normal(version string) string {
	if rest, ok := strings.CutPrefix(version, "v"); ok && rest != "" && digit(rest[0]) {
		version = rest
	}
	return strings.ReplaceAll(version, "-rc", "~rc")
}

// run cuts what begins a text off: digits, or what is none.
func run(text string, digits bool) (first, rest string) {
	i := 0
	for i < len(text) && digit(text[i]) == digits {
		i++
	}
	return text[:i], text[i:]
}

func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func compareWords(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// weight is the rank of a character; that of the end is 0.
func weight(word string, i int) int {
	switch {
	case i >= len(word):
		return 0
	case word[i] == '~':
		return -1
	case letter(word[i]):
		return int(word[i])
	}
	return int(word[i]) + 256
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// meets reports whether a version satisfies an operator with another.
func meets(have, op, want string) bool {
	switch c := compareVersions(have, want); op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	default:
		return c == 0
	}
}

package vulns

import (
	"cmp"
	"regexp"
	"strings"
)

// pep440Order compares versions of Python packages
// (https://packaging.python.org/en/latest/specifications/version-specifiers/).
var pep440Order = checked("PEP 440", func(v string) bool { return pep440Form.MatchString(strings.ToLower(v)) }, comparePEP440)

// pep440Form has epoch, release, pre-release and its number, post-release in its two forms,
// development release, and local version.
var pep440Form = regexp.MustCompile(`^v?(?:([0-9]+)!)?([0-9]+(?:\.[0-9]+)*)` +
	`(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?([0-9]*))?` +
	`(?:-([0-9]+)|[-_.]?(post|rev|r)[-_.]?([0-9]*))?` +
	`(?:[-_.]?(dev)[-_.]?([0-9]*))?` +
	`(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?$`)

// pep440 is a version in parts that are compared one after the other.
type pep440 struct {
	epoch       string
	release     []string
	pre         int // phase: 0 a development release of the final one, 1 alpha, 2 beta, 3 candidate, 4 final
	preNumber   string
	post        int // 0 none, 1 one
	postNumber  string
	development int // 0 one, 1 none
	devNumber   string
	local       []string
}

func parsePEP440(v string) pep440 {
	m := pep440Form.FindStringSubmatch(strings.ToLower(v))
	out := pep440{
		epoch: m[1], release: strings.Split(m[2], "."), pre: phase(m[3]), preNumber: m[4],
		postNumber: cmp.Or(m[5], m[7]), devNumber: m[9], development: 1,
	}
	if m[5] != "" || m[6] != "" {
		out.post = 1
	}
	if m[8] != "" {
		out.development = 0
	}
	if m[3] == "" && out.post == 0 && m[8] != "" {
		out.pre = 0 // before all pre-releases of the same release
	}
	if m[10] != "" {
		out.local = strings.FieldsFunc(m[10], func(r rune) bool { return strings.ContainsRune("-_.", r) })
	}
	return out
}

func phase(word string) int {
	switch word {
	case "a", "alpha":
		return 1
	case "b", "beta":
		return 2
	case "c", "rc", "pre", "preview":
		return 3
	}
	return 4
}

func comparePEP440(a, b string) int {
	x, y := parsePEP440(a), parsePEP440(b)
	return cmp.Or(
		numbers(x.epoch, y.epoch), compareReleases(x.release, y.release),
		cmp.Compare(x.pre, y.pre), numbers(x.preNumber, y.preNumber), cmp.Compare(x.post, y.post), numbers(x.postNumber, y.postNumber),
		cmp.Compare(x.development, y.development), numbers(x.devNumber, y.devNumber), compareLocals(x.local, y.local),
	)
}

// compareReleases compares numbers, of which those that are missing are zero.
func compareReleases(a, b []string) int {
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if c := numbers(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// compareLocals compares local versions: words are before numbers, and a shorter one is before a
// longer one.
func compareLocals(a, b []string) int {
	for i := range min(len(a), len(b)) {
		na, wordA := leading(a[i])
		nb, wordB := leading(b[i])
		isNumberA, isNumberB := wordA == "" && na != "", wordB == "" && nb != ""
		var c int
		switch {
		case isNumberA && isNumberB:
			c = numbers(na, nb)
		case isNumberA != isNumberB:
			c = before(isNumberB)
		default:
			c = strings.Compare(a[i], b[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

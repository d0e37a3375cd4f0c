package vulns

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// apkOrder compares versions of Alpine's packages as apk-tools does.
var apkOrder = checked("Alpine", apkForm.MatchString, compareAPK)

// apkForm is digits{.digits}[letter]{_suffix[digits]}[~hash][-r#] (apk-tools, doc/apk-package.5).
var apkForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)*)([a-z]?)((?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]*)*)(?:~([0-9a-f]+))?(?:-r([0-9]+))?$`)

// apkSuffixes are the words behind an underscore in their order; "" is none of them.
var apkSuffixes = []string{"alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p"}

func compareAPK(a, b string) int {
	x, y := apkForm.FindStringSubmatch(a), apkForm.FindStringSubmatch(b)
	return cmp.Or(
		compareComponents(strings.Split(x[1], "."), strings.Split(y[1], ".")),
		strings.Compare(x[2], y[2]), compareSuffixes(x[3], y[3]), strings.Compare(x[4], y[4]), numbers(x[5], y[5]),
	)
}

// compareComponents compares the numbers: those behind the first one that begin with 0 as fractions,
// as texts.
func compareComponents(a, b []string) int {
	for i := range min(len(a), len(b)) {
		c := numbers(a[i], b[i])
		if i > 0 && (a[i][0] == '0' || b[i][0] == '0') {
			c = strings.Compare(a[i], b[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// compareSuffixes compares the suffixes one by one.
func compareSuffixes(a, b string) int {
	x, y := strings.Split(a, "_")[1:], strings.Split(b, "_")[1:]
	for i := range max(len(x), len(y)) {
		ra, na := suffixAt(x, i)
		rb, nb := suffixAt(y, i)
		if c := cmp.Or(cmp.Compare(ra, rb), numbers(na, nb)); c != 0 {
			return c
		}
	}
	return 0
}

// suffixAt returns the place of a suffix in [apkSuffixes], and its number.
func suffixAt(list []string, i int) (place int, number string) {
	if i >= len(list) {
		return slices.Index(apkSuffixes, ""), ""
	}
	name, number := word(list[i])
	return slices.Index(apkSuffixes, name), number
}

package vulns

import (
	"cmp"
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
)

// order compares two versions as an ecosystem does; an error is that of a version that it does not
// know how to read.
type order func(a, b string) (int, error)

// maxVersion bounds a version, in bytes: longer ones are nobody's.
const maxVersion = 512

// versionError is the error of a text that is not a version.
type versionError struct{ form, text string }

func (e *versionError) Error() string {
	return fmt.Sprintf("%q is not a version of %s", e.text, e.form)
}

// checked lets only versions of a sane length and without blanks be compared.
func checked(form string, valid func(string) bool, compare func(a, b string) int) order {
	return func(a, b string) (int, error) {
		for _, v := range []string{a, b} {
			if v == "" || len(v) > maxVersion || !valid(v) {
				return 0, &versionError{form, v}
			}
		}
		return compare(a, b), nil
	}
}

// The orders of versions.
var (
	debOrder    = checked("Debian", validDeb, compareDeb)
	rpmOrder    = checked("RPM", validRPM, compareRPM)
	semverOrder = checked("Semantic Versioning", func(v string) bool { return semver.IsValid(semantic(v)) }, func(a, b string) int {
		return semver.Compare(semantic(a), semantic(b))
	})
	// kernelOrder is that of the Linux kernel, whose candidates are numbered: 6.13-rc10.
	kernelOrder order = func(a, b string) (int, error) {
		return semverOrder(strings.Replace(a, "-rc", "-rc.", 1), strings.Replace(b, "-rc", "-rc.", 1))
	}
)

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// validDeb reports whether a text is a version by Debian Policy 5.6.12.
func validDeb(v string) bool {
	if epoch, rest, found := strings.Cut(v, ":"); found {
		if epoch == "" || strings.Trim(epoch, "0123456789") != "" {
			return false
		}
		v = rest
	}
	return v != "" && !strings.HasSuffix(v, "-") && strings.IndexFunc(v, func(r rune) bool {
		return r > 127 || !digit(byte(r)) && !letter(byte(r)) && !strings.ContainsRune(".+-:~", r)
	}) < 0
}

// compareDeb compares versions as dpkg does (Debian Policy 5.6.12).
func compareDeb(a, b string) int {
	ea, ua, ra := splitDeb(a)
	eb, ub, rb := splitDeb(b)
	return cmp.Or(numbers(ea, eb), partDeb(ua, ub), partDeb(ra, rb))
}

// splitDeb returns epoch, upstream version and revision.
func splitDeb(v string) (epoch, upstream, revision string) {
	epoch, rest, found := strings.Cut(v, ":")
	if !found {
		epoch, rest = "0", v
	}
	if i := strings.LastIndexByte(rest, '-'); i >= 0 {
		return epoch, rest[:i], rest[i+1:]
	}
	return epoch, rest, "0"
}

// partDeb compares an upstream version or a revision: what is no digit by the order of [weight], then
// what is, as numbers, in turns.
func partDeb(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			if c := cmp.Compare(weight(a), weight(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		var na, nb string
		na, a = leading(a)
		nb, b = leading(b)
		if c := numbers(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

// weight is the place of the first character: the tilde is before the end, and letters are before
// everything else.
func weight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case letter(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

// leading splits off the digits at the beginning.
func leading(s string) (number, rest string) {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

// numbers compares decimal numbers of any length; none is zero.
func numbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func validRPM(v string) bool {
	return strings.IndexFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// compareRPM compares EPOCH:VERSION-RELEASE as rpmvercmp does.
func compareRPM(a, b string) int {
	ea, va, ra := splitDeb(a)
	eb, vb, rb := splitDeb(b)
	return cmp.Or(numbers(ea, eb), partRPM(va, vb), partRPM(ra, rb))
}

// partRPM compares a version or a release: the tilde is before the end, the caret behind it, numbers
// are behind letters, and everything else separates.
func partRPM(a, b string) int {
	separator := func(r rune) bool {
		return r > 127 || !digit(byte(r)) && !letter(byte(r)) && r != '~' && r != '^'
	}
	for {
		a, b = strings.TrimLeftFunc(a, separator), strings.TrimLeftFunc(b, separator)
		c, more := marks(a, b)
		switch {
		case c != 0:
			return c
		case more:
			a, b = a[1:], b[1:]
			continue
		case a == "" || b == "":
			return cmp.Compare(len(a), len(b))
		}
		if c, a, b = segment(a, b); c != 0 {
			return c
		}
	}
}

// marks compares a tilde or a caret at the beginning; both reports whether both texts begin with the
// same one.
func marks(a, b string) (c int, both bool) {
	ta, tb := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~")
	ca, cb := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^")
	switch {
	case ta && tb || ca && cb:
		return 0, true
	case ta || tb:
		return before(ta), false
	case ca:
		return before(b != ""), false
	case cb:
		return before(a == ""), false
	}
	return 0, false
}

// before is the result of a comparison of which it is known whether the first one is smaller.
func before(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

// segment compares a number or a word at the beginning and returns what follows.
func segment(a, b string) (c int, restA, restB string) {
	na, restA := leading(a)
	nb, restB := leading(b)
	switch {
	case na != "" && nb != "":
		return numbers(na, nb), restA, restB
	case na != "" || nb != "":
		return before(na == ""), restA, restB
	}
	wa, restA := word(a)
	wb, restB := word(b)
	return strings.Compare(wa, wb), restA, restB
}

// word splits off the letters at the beginning.
func word(s string) (letters, rest string) {
	n := 0
	for n < len(s) && letter(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

// semantic returns a version in the form of package semver: with a "v", three numbers, and of Go's own
// versions, as 1.21rc2, with a dash. What it cannot be made of is left as it is.
func semantic(v string) string {
	v = strings.TrimPrefix(strings.TrimPrefix(v, "go"), "v")
	core, build, _ := strings.Cut(v, "+")
	core, pre, dashed := strings.Cut(core, "-")
	if i := strings.IndexFunc(core, func(r rune) bool { return r >= 'a' && r <= 'z' }); !dashed && i > 0 {
		kind, number := word(core[i:])
		core, pre = core[:i], kind+"."+number
	}
	for strings.Count(core, ".") < 2 && core != "" {
		core += ".0"
	}
	out := "v" + core
	if pre != "" || dashed {
		out += "-" + pre
	}
	if build != "" {
		out += "+" + build
	}
	return out
}

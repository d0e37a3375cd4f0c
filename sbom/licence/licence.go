// Package licence knows the licences and exceptions of SPDX's list, and joins them to expressions
// (SPDX 2.3, annex D).
package licence

import (
	"cmp"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"
)

// replaced has what SPDX's list gives for its deprecated identifiers. Of those that are not here
// the list has nothing that says the same; they are still valid.
var replaced = map[string]string{
	"AGPL-1.0":                         "AGPL-1.0-only",
	"AGPL-3.0":                         "AGPL-3.0-only",
	"BSD-2-Clause-FreeBSD":             "BSD-2-Clause-Views",
	"BSD-2-Clause-NetBSD":              "BSD-2-Clause",
	"bzip2-1.0.5":                      "bzip2-1.0.6",
	"eCos-2.0":                         "GPL-2.0-or-later WITH eCos-exception-2.0",
	"GFDL-1.1":                         "GFDL-1.1-only",
	"GFDL-1.2":                         "GFDL-1.2-only",
	"GFDL-1.3":                         "GFDL-1.3-only",
	"GPL-1.0":                          "GPL-1.0-only",
	"GPL-1.0+":                         "GPL-1.0-or-later",
	"GPL-2.0":                          "GPL-2.0-only",
	"GPL-2.0+":                         "GPL-2.0-or-later",
	"GPL-2.0-with-autoconf-exception":  "GPL-2.0-only WITH Autoconf-exception-2.0",
	"GPL-2.0-with-bison-exception":     "GPL-2.0-only WITH Bison-exception-2.2",
	"GPL-2.0-with-classpath-exception": "GPL-2.0-only WITH Classpath-exception-2.0",
	"GPL-2.0-with-font-exception":      "GPL-2.0-only WITH Font-exception-2.0",
	"GPL-2.0-with-GCC-exception":       "GPL-2.0-only WITH GCC-exception-2.0",
	"GPL-3.0":                          "GPL-3.0-only",
	"GPL-3.0+":                         "GPL-3.0-or-later",
	"GPL-3.0-with-autoconf-exception":  "GPL-3.0-only WITH Autoconf-exception-3.0",
	"GPL-3.0-with-GCC-exception":       "GPL-3.0-only WITH GCC-exception-3.1",
	"LGPL-2.0":                         "LGPL-2.0-only",
	"LGPL-2.0+":                        "LGPL-2.0-or-later",
	"LGPL-2.1":                         "LGPL-2.1-only",
	"LGPL-2.1+":                        "LGPL-2.1-or-later",
	"LGPL-3.0":                         "LGPL-3.0-only",
	"LGPL-3.0+":                        "LGPL-3.0-or-later",
	"Nunit":                            "zlib-acknowledgement",
	"StandardML-NJ":                    "SMLNJ",
	"wxWindows":                        "LGPL-2.0-or-later WITH WxWindows-exception-3.1",
}

// ID returns the identifier of SPDX's list for a name in upper or lower case, and reports whether
// the list has it. For a deprecated one it is what replaced it, which may have an exception:
// "GPL-2.0+" is GPL-2.0-or-later. A plus behind another identifier stays: it is an operator.
func ID(name string) (string, bool) {
	for _, gnu := range []string{"GPL-", "LGPL-", "AGPL-", "GFDL-"} {
		if later, plus := strings.CutSuffix(strings.ToUpper(name), "+"); plus && strings.HasPrefix(later, gnu) {
			if ok, id := spdxlicenses.IsActiveLicense(later + "-or-later"); ok {
				return id, true
			}
		}
	}
	base, plus := strings.CutSuffix(name, "+")
	for _, n := range []struct{ name, suffix string }{{name, ""}, {base, "+"}} {
		ok, id := spdxlicenses.IsActiveLicense(n.name)
		if !ok {
			ok, id = spdxlicenses.IsDeprecatedLicense(n.name)
			id = cmp.Or(replaced[id], id)
		}
		if ok && !(n.suffix != "" && strings.Contains(id, " ")) {
			return id + n.suffix, true
		}
		if !plus {
			break
		}
	}
	return "", false
}

// Exception returns the identifier of an exception of SPDX's list for a name in upper or lower
// case, and reports whether the list has it.
func Exception(name string) (string, bool) {
	ok, id := spdxlicenses.IsException(name)
	if !ok {
		id = ""
	}
	return id, ok
}

// And returns the expression of licences that all hold, sorted and each once, with parentheses where
// an expression has a choice. Empty expressions are left out.
func And(expressions ...string) string { return join(" AND ", expressions) }

// Or returns the expression of a choice, as [And] does.
func Or(expressions ...string) string { return join(" OR ", expressions) }

func join(operator string, expressions []string) string {
	var list []string
	for _, e := range expressions {
		if len(split(e, " OR ")) > 1 && operator != " OR " {
			list = append(list, e)
			continue
		}
		for _, term := range split(e, operator) {
			list = append(list, bare(term))
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > 1 && operator == " AND " {
		for i, e := range list {
			if len(split(e, " OR ")) > 1 {
				list[i] = "(" + e + ")" // AND binds more tightly than OR
			}
		}
	}
	return strings.Join(list, operator)
}

// split cuts an expression at an operator outside of parentheses. An empty expression has no part.
func split(expression, operator string) []string {
	if expression == "" {
		return nil
	}
	var out []string
	depth, start := 0, 0
	for i := range len(expression) {
		switch {
		case expression[i] == '(':
			depth++
		case expression[i] == ')':
			depth--
		case depth == 0 && strings.HasPrefix(expression[i:], operator):
			out, start = append(out, expression[start:i]), i+len(operator)
		}
	}
	return append(out, expression[start:])
}

// bare removes a pair of parentheses around a whole expression.
func bare(expression string) string {
	inner, ok := strings.CutPrefix(expression, "(")
	inner, end := strings.CutSuffix(inner, ")")
	depth := 0
	for _, c := range inner {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth < 0 {
			return expression // two pairs side by side
		}
	}
	if !ok || !end || depth != 0 {
		return expression
	}
	return inner
}

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
	list := slices.Clone(expressions)
	slices.Sort(list)
	list = slices.Compact(list)
	list = slices.DeleteFunc(list, func(e string) bool { return e == "" })
	if len(list) == 1 {
		return list[0]
	}
	for i, e := range list {
		// AND binds more tightly than OR.
		if operator == " AND " && strings.Contains(e, " OR ") {
			list[i] = "(" + e + ")"
		}
	}
	return strings.Join(list, operator)
}

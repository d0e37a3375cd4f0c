package copyright

import (
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/sbom/licence"
)

// shortNames are the form's names for licences that SPDX's list has under another name (section
// 7.1.2 of the form), and names that are widely used in copyright files and by other packages.
var shortNames = map[string]string{
	"asl 2.0":                              "Apache-2.0",
	"apache software":                      "Apache-2.0",
	"apache license 2.0":                   "Apache-2.0",
	"apache license, version 2.0":          "Apache-2.0",
	"apache license version 2.0":           "Apache-2.0",
	"apache v2":                            "Apache-2.0",
	"apache2":                              "Apache-2.0",
	"new bsd":                              "BSD-3-Clause",
	"modified bsd":                         "BSD-3-Clause",
	"simplified bsd":                       "BSD-2-Clause",
	"3-clause bsd":                         "BSD-3-Clause",
	"2-clause bsd":                         "BSD-2-Clause",
	"bsd 3-clause":                         "BSD-3-Clause",
	"bsd 2-clause":                         "BSD-2-Clause",
	"python software foundation":           "PSF-2.0",
	"mozilla public license 2.0":           "MPL-2.0",
	"mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
	"the mit":                              "MIT",
	"the unlicense":                        "Unlicense",
	"expat":                                "MIT",
	"mit/x11":                              "MIT",
	"mit/expat":                            "MIT",
	"expat/mit":                            "MIT",
	"mit-expat":                            "MIT",
	"artistic":                             "Artistic-1.0-Perl", // as in /usr/share/common-licenses/Artistic
	"perl":                                 "Artistic-1.0-Perl OR GPL-1.0-or-later",
	"freebsd":                              "BSD-2-Clause-Views",
	"bsd-2":                                "BSD-2-Clause",
	"bsd-3":                                "BSD-3-Clause",
	"bsd-4":                                "BSD-4-Clause",
	"bsd-2-clauses":                        "BSD-2-Clause",
	"bsd-3-clauses":                        "BSD-3-Clause",
	"bsd-4-clauses":                        "BSD-4-Clause",
	"bsd-2clause":                          "BSD-2-Clause",
	"bsd-3clause":                          "BSD-3-Clause",
	"bsd-4clause":                          "BSD-4-Clause",
	"bsl-1":                                "BSL-1.0",
	"boost-1.0":                            "BSL-1.0",
	"boost-1":                              "BSL-1.0",
	"cc0":                                  "CC0-1.0",
	"python":                               "Python-2.0",
	"psf":                                  "PSF-2.0",
	"qpl":                                  "QPL-1.0",
	"efl":                                  "EFL-2.0",
	"eiffel-forum-2":                       "EFL-2.0",
	"zope":                                 "ZPL-2.1",
	"zope-2.1":                             "ZPL-2.1",
	"sil-1.1":                              "OFL-1.1",
	"sil-ofl-1.1":                          "OFL-1.1",
	"beer-ware":                            "Beerware",
	"wtfpl-2":                              "WTFPL",
	"zlib/libpng":                          "Zlib",
	"gfdl":                                 "GFDL-1.1-only",
	"gfdl-niv":                             "GFDL-1.1-no-invariants-only",
	"asl-2.0":                              "Apache-2.0",
	"apache-license-2.0":                   "Apache-2.0",
	"ofl":                                  "OFL-1.1",
	"lppl":                                 "LPPL-1.0",
	"apache":                               "Apache-1.0",
	"gpl":                                  "GPL-1.0-only", // without a version, the form implies the lowest
	"gpl+":                                 "GPL-1.0-or-later",
	"lgpl":                                 "LGPL-2.0-only",
	"lgpl+":                                "LGPL-2.0-or-later",
}

var (
	// gnu are names of the GNU licences with a version.
	gnu = regexp.MustCompile(`^(a|l)?gpl[- ]?v?([1-3](?:\.[0-9])*)(\+|-or-later|-only| or later)?$`)
	// gnuWith are names with an exception behind a hyphen: "GPL-2+-libtool-exception".
	gnuWith = regexp.MustCompile(`(?i)^([al]?gpl-[\d.]+\+?)-(.+-exception)$`)
	// gfdl are those of the GNU documentation licence, with and without invariant sections.
	gfdl = regexp.MustCompile(`^gfdl-(niv-)?(1\.[1-3])(\+?)(-no-invariants?)?(\+?)$`)
)

// ShortName returns the SPDX expression for the form's short name of a licence, and reports
// whether SPDX's list has that licence.
func ShortName(name string) (string, bool) {
	low := fold(name)
	if id := shortNames[low]; id != "" {
		return id, true
	}
	if bare, ok := strings.CutSuffix(low, " license"); ok && bare != "" {
		if id, ok := ShortName(bare); ok {
			return id, true
		}
	}
	if m := gnu.FindStringSubmatch(low); m != nil {
		version := m[2]
		if !strings.Contains(version, ".") {
			version += ".0"
		}
		suffix := "-only"
		if strings.HasPrefix(m[3], "+") || strings.HasSuffix(m[3], "later") {
			suffix = "-or-later"
		}
		return licence.ID(m[1] + "gpl-" + version + suffix)
	}
	if m := gfdl.FindStringSubmatch(low); m != nil {
		id := "gfdl-" + m[2]
		if m[1]+m[4] != "" {
			id += "-no-invariants"
		}
		if m[3]+m[5] != "" {
			return licence.ID(id + "-or-later")
		}
		return licence.ID(id + "-only")
	}
	return listed(strings.ReplaceAll(low, " ", "-"))
}

// listed looks a name up in SPDX's list. The form ignores zeros at the end of a version.
func listed(name string) (string, bool) {
	base, plus := strings.CutSuffix(name, "+")
	suffix := ""
	if plus {
		suffix = "+"
	}
	for _, candidate := range []string{base, base + ".0", strings.TrimSuffix(base, ".0")} {
		if id, ok := licence.ID(candidate + suffix); ok {
			return id, true
		}
	}
	return "", false
}

// exceptionNames returns the names that an exception may have in SPDX's list, which for some are
// different for each version of the licence.
func exceptionNames(id, exception string) []string {
	name := strings.Join(strings.FieldsFunc(strings.ToLower(exception), func(c rune) bool { return c == ' ' || c == '-' }), "-")
	name = strings.TrimSuffix(strings.TrimSuffix(name, "s"), "-exception")
	three := strings.Contains(id, "GPL-3.0")
	switch name {
	case "font":
		return []string{"Font-exception-2.0"}
	case "autoconf-data":
		// config.guess and the like; that of Autoconf itself is another one.
		if three {
			return []string{"Autoconf-exception-generic-3.0"}
		}
		return []string{"Autoconf-exception-generic"}
	case "bison":
		return []string{"Bison-exception-2.2"}
	case "classpath":
		return []string{"Classpath-exception-2.0"}
	case "gcc", "gcc-runtime-library":
		if three {
			return []string{"GCC-exception-3.1"}
		}
		return []string{"GCC-exception-2.0"}
	}
	return []string{exception, name, name + "-exception"}
}

package licence

import (
	"strings"
	"testing"

	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"
)

func TestID(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"mit":                        "MIT",
		"GPL-2.0+":                   "GPL-2.0-or-later",
		"gpl-2.0":                    "GPL-2.0-only",
		"GFDL-1.3+":                  "GFDL-1.3-or-later",
		"AGPL-3.0+":                  "AGPL-3.0-or-later",
		"Apache-2.0+":                "Apache-2.0+",
		"eCos-2.0":                   "GPL-2.0-or-later WITH eCos-exception-2.0",
		"eCos-2.0+":                  "",
		"GPL-2.0-with-GCC-exception": "GPL-2.0-only WITH GCC-exception-2.0",
		"Net-SNMP":                   "Net-SNMP",
		"GPL":                        "",
		"":                           "",
		"+":                          "",
	} {
		if got, ok := ID(name); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", name, got, ok, want)
		}
	}
}

// TestReplacements checks that each deprecated identifier has a replacement of the list.
func TestReplacements(t *testing.T) {
	t.Parallel()
	for _, old := range spdxlicenses.GetDeprecated() {
		id, exception, with := strings.Cut(replaced[old], " WITH ")
		if ok, same := spdxlicenses.IsActiveLicense(id); old != "Net-SNMP" && (!ok || same != id) {
			t.Errorf("%s is replaced by %q, which the list does not have", old, id)
		}
		if same, ok := Exception(exception); with && (!ok || same != exception) {
			t.Errorf("%s is replaced by an exception %q, which the list does not have", old, exception)
		}
	}
}

func TestException(t *testing.T) {
	t.Parallel()
	if id, ok := Exception("linux-syscall-note"); id != "Linux-syscall-note" || !ok {
		t.Errorf("%q, %v", id, ok)
	}
	if id, ok := Exception("openssl"); id != "" || ok {
		t.Errorf("%q, %v", id, ok)
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{And("MIT", "", "Artistic-2.0 OR GPL-2.0-only", "MIT"), "(Artistic-2.0 OR GPL-2.0-only) AND MIT"},
		{And("MIT OR Zlib"), "MIT OR Zlib"},
		{And("(MIT OR Zlib) AND ISC", "ISC", "0BSD AND X11"), "0BSD AND ISC AND (MIT OR Zlib) AND X11"},
		{Or("MIT OR ISC", "ISC OR (MIT AND X11)"), "ISC OR MIT OR MIT AND X11"},
		{Or("MIT", "ISC AND Zlib"), "ISC AND Zlib OR MIT"},
		{And("MIT OR ISC", "(MIT OR ISC)"), "MIT OR ISC"},
		{And("(MIT OR ISC) AND (Zlib OR X11)", "Zlib"), "(MIT OR ISC) AND Zlib AND (Zlib OR X11)"},
		{And(), ""},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

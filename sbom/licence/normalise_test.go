package licence_test

import (
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/sbom/licence"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	names := func(name string) (string, bool) {
		id, ok := map[string]string{"GPLv2+": "GPL-2.0-or-later", "Apache License 2.0": "Apache-2.0"}[name]
		return id, ok
	}
	for in, want := range map[string]string{
		"GPL-2.0":                        "GPL-2.0-only",
		"GPL-2.0+":                       "GPL-2.0-or-later",
		"gpl-2.0-only":                   "GPL-2.0-only",
		"GPL-2.0 or later":               "GPL-2.0-or-later",
		"GPLv2+":                         "GPL-2.0-or-later",
		"MIT or Apache-2.0":              "Apache-2.0 OR MIT",
		"LGPL-2.1+ or MIT, BSD-3-Clause": "BSD-3-Clause AND (LGPL-2.1-or-later OR MIT)",
		"GPL-2.0+ (programs), LGPL-2.1+ (library)": "GPL-2.0-or-later AND LGPL-2.1-or-later",
		"MIT & (GPL-2.0-only | Zlib)":              "(GPL-2.0-only OR Zlib) AND MIT",
		"GPL-2.0-only WITH Linux-syscall-note":     "GPL-2.0-only WITH Linux-syscall-note",
		"GPL-2.0 with GCC-exception-2.0":           "GPL-2.0-only WITH GCC-exception-2.0",
		"MIT/Apache-2.0":                           "Apache-2.0 OR MIT",
		"Apache License 2.0 and MIT":               "Apache-2.0 AND MIT",
		"LicenseRef-x AND MIT":                     "LicenseRef-x AND MIT",
		"DocumentRef-a:LicenseRef-x":               "DocumentRef-a:LicenseRef-x",
		"MIT,":                                     "MIT",
		"((MIT))":                                  "MIT",
	} {
		if got, ok := licence.Normalise(in, names); !ok || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, ok, want)
		}
	}
	for _, in := range []string{
		"", "Vendored (probably missing)", "MIT or", "or MIT", "(MIT", "MIT)", "MIT MIT", "MIT with classpath", "GPL-2.0 (or MIT)", "MIT (x", "/", ",",
		"LicenseRef-", "MIT WITH", "MIT ()()", strings.Repeat("(", 100) + "MIT" + strings.Repeat(")", 100), strings.Repeat("MIT,", 5000),
	} {
		if got, ok := licence.Normalise(in, nil); ok {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	f.Add("GPL-2.0+ (programs), LGPL-2.1+ or MIT & (Zlib)")
	f.Fuzz(func(t *testing.T, text string) {
		e, ok := licence.Normalise(text, nil)
		if !ok {
			return
		}
		// What is normalised stays as it is.
		if again, ok := licence.Normalise(e, nil); !ok || again != e {
			t.Errorf("%q: %q, then %q", text, e, again)
		}
	})
}

package copyright

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/google/go-cmp/cmp"
)

const form = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"

// TestShortLines reads one line of a field License each. LicenseRefs are shown without their digest.
func TestShortLines(t *testing.T) {
	t.Parallel()
	digest := regexp.MustCompile(`(LicenseRef-.*?)-[0-9a-f]{12}`)
	for line, want := range map[string]string{
		"GPL-2+":                  "GPL-2.0-or-later",
		"GPL-2":                   "GPL-2.0-only",
		"GPL2+":                   "GPL-2.0-or-later",
		"GPLv3":                   "GPL-3.0-only",
		"GPL v2 or later":         "GPL-2.0-or-later",
		"GPL":                     "GPL-1.0-only",
		"LGPL-2.1-or-later":       "LGPL-2.1-or-later",
		"LGPL-2+":                 "LGPL-2.0-or-later",
		"AGPL-3":                  "AGPL-3.0-only",
		"Expat":                   "MIT",
		"BSD-3-clause":            "BSD-3-Clause",
		"Apache-2":                "Apache-2.0",
		"Artistic":                "Artistic-1.0-Perl",
		"Perl":                    "Artistic-1.0-Perl OR GPL-1.0-or-later",
		"GFDL-NIV-1.3+":           "GFDL-1.3-no-invariants-or-later",
		"GFDL-1.2+-no-invariants": "GFDL-1.2-no-invariants-or-later",
		"GFDL-1.3":                "GFDL-1.3-only",
		"MPL-1.1+":                "MPL-1.1+",
		"Zope-2.1":                "ZPL-2.1",
		"public-domain":           "LicenseRef-public-domain",
		"BSD":                     "LicenseRef-BSD",
		"GPL-1+ or Artistic":      "Artistic-1.0-Perl OR GPL-1.0-or-later",
		"GPL-2+ or Artistic-2.0, and BSD-3-clause":       "(Artistic-2.0 OR GPL-2.0-or-later) AND BSD-3-Clause",
		"Expat or ISC and Zlib":                          "ISC AND Zlib OR MIT",
		"Expat, ISC or Zlib":                             "ISC OR MIT OR Zlib",
		"Expat, ISC, and Zlib":                           "ISC AND MIT AND Zlib",
		"Expat, ISC, Zlib":                               "ISC AND MIT AND Zlib",
		"Expat, ISC,":                                    "ISC AND MIT",
		"Expat and/or GPL-2":                             "GPL-2.0-only OR MIT",
		"Expat | ISC":                                    "ISC OR MIT",
		"(Expat or ISC) and Zlib":                        "(ISC OR MIT) AND Zlib",
		"GPL-2+ with OpenSSL exception":                  "LicenseRef-GPL-2-with-OpenSSL-exception",
		"GPL-2 with Linux-syscall-note exception":        "GPL-2.0-only WITH Linux-syscall-note",
		"GPL-3+ with GCC exception":                      "GPL-3.0-or-later WITH GCC-exception-3.1",
		"GPL-2+ with Bison exception and Expat":          "GPL-2.0-or-later WITH Bison-exception-2.2 AND MIT",
		"GPL-3.0-or-later-WITH-Autoconf-exception-macro": "GPL-3.0-or-later WITH Autoconf-exception-macro",
		"GPL-2+-libtool-exception":                       "GPL-2.0-or-later WITH Libtool-exception",
		"Expat or":                                       "LicenseRef-Expat-or",
		"Expat)":                                         "LicenseRef-Expat",
		"(Expat":                                         "LicenseRef-Expat",
		strings.Repeat("(", 5000) + "Expat":              "LicenseRef-Expat",
		"":                                               "LicenseRef-unnamed",
	} {
		c, err := Parse("demo", []byte(form+"\nFiles: *\nCopyright: us\nLicense: "+line+"\n some text\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := digest.ReplaceAllString(c.Expression, "$1")
		if strings.HasPrefix(line, "((") {
			got = got[:len(got)-len(strings.TrimPrefix(got, "LicenseRef-"))] + "Expat"
		}
		if got != want {
			t.Errorf("%.60q: %q, want %q", line, got, want)
		}
	}
}

// TestLine reads what packages of other kinds say.
func TestLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"Apache 2.0":                           "Apache-2.0",
		"Apache License, Version 2.0":          "Apache-2.0",
		"Apache Software License":              "Apache-2.0",
		"MIT License":                          "MIT",
		"The MIT License":                      "MIT",
		"BSD-3-Clause License":                 "BSD-3-Clause",
		"3-Clause BSD License":                 "BSD-3-Clause",
		"(MIT OR Apache-2.0) AND Unicode-3.0":  "(Apache-2.0 OR MIT) AND Unicode-3.0",
		"GPL-2.0-only WITH Linux-syscall-note": "GPL-2.0-only WITH Linux-syscall-note",
		"GPLv2+ and LGPLv2+ and MIT":           "GPL-2.0-or-later AND LGPL-2.0-or-later AND MIT",
		"LGPL-2.1-only & (GPL-2.0-only | MIT)": "(GPL-2.0-only OR MIT) AND LGPL-2.1-only",
		" License":                             "LicenseRef-License",
		"":                                     "",
	} {
		got, refs := Line(line)
		if len(refs) == 1 {
			got = strings.ReplaceAll(got, refs[0].ID, refs[0].ID[:strings.LastIndexByte(refs[0].ID, '-')])
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

const demo = form + `Upstream-Name: demo
# a comment

Files: *
Copyright: 2001 One
 2002, Two
License: GPL-2+ with OpenSSL exception

Files: lib/*
Copyright: 2002, Two
License: Strange
 Do what is right.
 .
  Indented.
pasted without a blank
Note: neither is this a field.

Files: debian/*
Copyright: 2003 Three
License: Expat

License: GPL-2+ with OpenSSL exception
 The GNU licence, and OpenSSL.

License: Expat
 Permission is granted.
`

func TestForm(t *testing.T) {
	t.Parallel()
	for _, text := range []string{demo, strings.ReplaceAll(demo, "\n", "\r\n"), "\uFEFF" + demo} {
		c, err := Parse("demo", []byte(text))
		if err != nil || !c.Formal {
			t.Fatalf("%v, %+v", err, c)
		}
		if len(c.Licences) != 2 {
			t.Fatalf("%+v", c.Licences)
		}
		openssl, strange := c.Licences[0], c.Licences[1]
		if openssl.Text != "The GNU licence, and OpenSSL." || openssl.Name != "GPL-2+ with OpenSSL exception" {
			t.Errorf("%+v", openssl)
		}
		if strange.Text != "Do what is right.\n\n Indented.\npasted without a blank\nNote: neither is this a field." {
			t.Errorf("%q", strange.Text)
		}
		if want := openssl.ID + " AND " + strange.ID + " AND MIT"; c.Expression != want {
			t.Errorf("%q, want %q", c.Expression, want)
		}
		if diff := cmp.Diff("2001 One\n2002, Two\n2003 Three", c.Holders); diff != "" {
			t.Error(diff)
		}
	}
}

// TestInformal has texts that do not follow the form.
func TestInformal(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"prose":          "This package was debianized by us.\n\nLicense: GPL\n",
		"another format": "Format: 1.0\n\nFiles: *\nLicense: Expat\n",
		"header alone":   form,
		"no licence":     form + "\nFiles: *\nCopyright: us\n",
		"binary":         "\xff\xfe\x00\x01",
	} {
		c, err := Parse("demo", []byte(text))
		if err != nil || c.Formal || len(c.Licences) != 1 || c.Expression != c.Licences[0].ID {
			t.Fatalf("%s: %v, %+v", name, err, c)
		}
		if want := strings.ToValidUTF8(text, "\uFFFD"); c.Licences[0].Text != want || c.Licences[0].Name != "demo-copyright" {
			t.Errorf("%s: %+v", name, c.Licences)
		}
	}
	if c, err := Parse("demo", []byte(" \n")); err != nil || c.Expression != "" {
		t.Errorf("an empty file: %v, %+v", err, c)
	}
}

// TestHeader takes the licence of the header only where no files have one.
func TestHeader(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		form + "License: ISC\n":                                                 "ISC",
		form + "License: ISC\n\nFiles: *\nLicense: Expat\n":                     "MIT",
		"Format-Specification: http://dep.debian.net/deps/dep5/\nLicense: Zlib": "Zlib",
	} {
		if c, err := Parse("demo", []byte(text)); err != nil || c.Expression != want || !c.Formal {
			t.Errorf("%q: %v, %+v", text, err, c)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	if _, err := Parse("demo", make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "demo") {
		t.Errorf("a huge file: %v", err)
	}
	var many strings.Builder
	many.WriteString(form + "\nFiles: *\nLicense: Expat\nCopyright: us\n")
	for i := range maxHolders + 9 {
		fmt.Fprintf(&many, " holder %d\n", i)
	}
	c, err := Parse("demo", []byte(many.String()))
	if err != nil || !strings.HasSuffix(c.Holders, "and 10 more lines") {
		t.Errorf("%v, %.100q", err, c.Holders)
	}
}

// FuzzParse checks that each expression is one of SPDX's syntax and has the texts that it names.
func FuzzParse(f *testing.F) {
	f.Add([]byte(demo))
	f.Add([]byte(form + "\nFiles: *\nLicense: (A, B or C) and Perl+ with x exception,\n\nLicense: A\n t\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("demo", text)
		if err != nil {
			return
		}
		for _, l := range c.Licences {
			if !strings.Contains(c.Expression, l.ID) || l.Text == "" {
				t.Errorf("%q: %+v", c.Expression, l)
			}
		}
		if c.Expression == "" {
			return
		}
		if ids, err := spdxexp.ExtractLicenses(c.Expression); err != nil {
			t.Errorf("%q: %v, %v", c.Expression, ids, err)
		}
		if again, _ := Parse("demo", text); again.Expression != c.Expression {
			t.Errorf("%q, then %q", c.Expression, again.Expression)
		}
	})
}

package sbom

import (
	"fmt"
	"strings"
)

// PURL returns a package URL (https://github.com/package-url/purl-spec). The namespace may have
// several parts with slashes, or be empty; qualifiers are names, sorted, each with its value, and
// left out without one.
func PURL(kind, namespace, name, version string, qualifiers ...string) string {
	var b strings.Builder
	b.WriteString("pkg:" + kind + "/")
	if namespace != "" {
		for part := range strings.SplitSeq(strings.Trim(namespace, "/"), "/") {
			b.WriteString(encoded(part) + "/")
		}
	}
	b.WriteString(encoded(name))
	if version != "" {
		b.WriteString("@" + encoded(version))
	}
	sep := "?"
	for i := 0; i+1 < len(qualifiers); i += 2 {
		if qualifiers[i+1] == "" {
			continue
		}
		b.WriteString(sep + qualifiers[i] + "=" + encoded(qualifiers[i+1]))
		sep = "&"
	}
	return b.String()
}

// encoded writes a part of a package URL: all but the unreserved characters and the colon are
// percent-encoded (purl-spec, "Character encoding").
func encoded(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(".-_~:", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

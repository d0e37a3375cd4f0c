package note

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// A relation of a kind that a version of SPDX does not have is one of the kind OTHER, whose comment
// begins with the kind's name.

var (
	noKind    = regexp.MustCompile(`[^A-Z0-9_]`)
	otherForm = regexp.MustCompile(`(?s)^kind ([A-Z0-9_]+)(?:: (.*))?$`)
)

// Kind returns the model's kind for a name in another document.
func Kind(name string) sbom.Kind {
	return sbom.Kind(cmp.Or(noKind.ReplaceAllString(strings.ToUpper(name), "_"), "OTHER"))
}

// Other returns the comment of a relation of the kind OTHER that stands for one of another kind.
func Other(kind sbom.Kind, comment string) string {
	return strings.TrimSuffix("kind "+string(kind)+": "+comment, ": ")
}

// ParseOther undoes Other. A comment in another form is returned as it is, with the kind OTHER.
func ParseOther(comment string) (sbom.Kind, string) {
	if m := otherForm.FindStringSubmatch(comment); m != nil {
		return sbom.Kind(m[1]), m[2]
	}
	return "OTHER", comment
}

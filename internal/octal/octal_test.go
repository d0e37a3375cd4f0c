package octal

import "testing"

func TestUnescape(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		"":             "",
		"/plain":       "/plain",
		`/a\040b\011c`: "/a b\tc",
		`\012\134\043`: "\n\\#",
		`\303\244`:     "ä",
		`\134040`:      `\040`, // the result is not decoded again
		`\000`:         `\000`,
		`\400`:         `\400`,
		`\08`:          `\08`,
		`\089`:         `\089`,
		`a\04`:         `a\04`,
		`a\`:           `a\`,
	} {
		if got := Unescape(field); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}

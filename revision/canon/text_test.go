package canon

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzAppendText writes strings that any JSON reader gives back.
func FuzzAppendText(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\\n\r\t\x00\x1f\x7f", "é\xff\xfe\u2028", "\xe2\x82", "\ufffd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var back string
		out := AppendText(nil, text)
		if err := json.Unmarshal(out, &back); err != nil || !utf8.Valid(out) {
			t.Fatalf("%q becomes %s: %v", text, out, err)
		}
		reference, _ := json.Marshal(text)
		var want string
		if err := json.Unmarshal(reference, &want); err != nil || back != want {
			t.Fatalf("%q comes back as %q", text, back)
		}
		if same := AppendText(nil, []byte(text)); string(same) != string(out) {
			t.Fatalf("bytes become %s, a string %s", same, out)
		}
	})
}

func TestAppendLong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                  `""`,
		"a/b <&>":           `"a/b <&>"`,
		"a\"b\\c":           `"a\u0022b\u005Cc"`,
		"\n\t\x00\x1f":      `"\u000A\u0009\u0000\u001F"`,
		"ä\u2028\U0001F600": "\"ä\u2028\U0001F600\"",
		"a\xff\xfeb":        "\"a\uFFFDb\"",
	} {
		got := AppendLong([]byte("x"), text)
		if string(got) != "x"+want {
			t.Errorf("%q: %s, want %s", text, got[1:], want)
		}
		var back string
		if err := json.Unmarshal(got[1:], &back); err != nil || back != strings.ToValidUTF8(text, "\uFFFD") {
			t.Errorf("%q: encoding/json reads %q, %v", text, back, err)
		}
	}
}

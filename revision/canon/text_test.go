package canon

import (
	"encoding/json"
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

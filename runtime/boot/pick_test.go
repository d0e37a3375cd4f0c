package boot

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// values writes a store and returns it.
func values(t *testing.T, text string) (Store, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "boot", "uboot.txt")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Open("uboot", dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

func TestPick(t *testing.T) {
	for _, c := range []struct {
		name, text, want, after string
		bad                     bool
	}{
		{"steady", "pv_rev=3\x00\x00", "3", "pv_rev=3\x00\x00", false},
		{"first try", "pv_rev=3\x00pv_try=4\x00\x00", "4", "pv_rev=3\x00pv_try=4\x00pv_trying=4\x00\x00", false},
		{"second try", "pv_rev=3\x00pv_try=4\x00pv_trying=4\x00\x00", "3", "pv_rev=3\x00pv_try=4\x00pv_trying=4\x00\x00", false},
		{"another try", "pv_rev=3\x00pv_try=5\x00pv_trying=4\x00\x00", "5", "pv_rev=3\x00pv_try=5\x00pv_trying=5\x00\x00", false},
		{"committed meanwhile", "pv_rev=4\x00pv_trying=4\x00\x00", "4", "pv_rev=4\x00pv_trying=4\x00\x00", false},
		{"nothing", "", "0", "", false},
		{"hostile try", "pv_rev=3\x00pv_try=../x\x00\x00", "3", "pv_rev=3\x00pv_try=../x\x00\x00", true},
		{"hostile revision", "pv_rev=/etc\x00\x00", "0", "pv_rev=/etc\x00\x00", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, path := values(t, c.text)
			got, err := Pick(s)
			text, rerr := os.ReadFile(path)
			after := text // less what makes it longer
			if list := bytes.TrimRight(text, "\x00"); len(list) > 0 {
				after = append(list, 0, 0)
			}
			if got != c.want || (err != nil) != c.bad || rerr != nil || string(after) != c.after {
				t.Errorf("%s, %v; left %q, %v; want %s and %q", got, err, after, rerr, c.want, c.after)
			}
		})
	}
}

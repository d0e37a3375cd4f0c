package product

import (
	"strings"
	"testing"
)

// TestTargetNames makes names of targets of those of directories.
func TestTargetNames(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"Board": "my-board", "my product": "my-product", "..": "product", "ähm": "hm", "-x-": "x",
		strings.Repeat("a", 47) + "-b": strings.Repeat("a", 47), strings.Repeat("z", 300): strings.Repeat("z", 48),
	} {
		got := targetName(base, []string{"board"})
		if got != want {
			t.Errorf("%q: %q, want %q", base, got, want)
		}
	}
}

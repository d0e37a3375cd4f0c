package autoboot

import (
	"strings"
	"testing"
)

func TestTextIsReadBack(t *testing.T) {
	t.Parallel()
	for _, c := range []Choice{{2, 3}, {3, 2}, {12, 13}} {
		text := c.Text()
		if got, err := Parse(text); err != nil || got != c {
			t.Errorf("%v is read back as %v, %v", c, got, err)
		}
		if len(text) != Size {
			t.Errorf("%v has %d bytes", c, len(text))
		}
		if got, err := Parse(c.Swapped().Text()); err != nil || got != (Choice{c.Try, c.Default}) {
			t.Errorf("%v swapped is %v, %v", c, got, err)
		}
	}
}

func TestParseTakesOthersFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Choice{
		"[all]\r\ntryboot_a_b=1\r\nboot_partition=2\r\n[tryboot]\r\nboot_partition=3\r\n":                   {2, 3},
		"boot_partition=5\n[tryboot]\nboot_partition=6":                                                     {5, 6}, // without a section it is for all
		"[all]\nboot_partition=2\nboot_partition=4\n[pi4]\nboot_partition=9\n[tryboot]\nboot_partition=3\n": {4, 3},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseRejects(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "want two boot partitions", "[all]\nboot_partition=2\n": "found 2 and 0",
		"[all]\nboot_partition=2\n[tryboot]\nboot_partition=2\n": "found 2 and 2",
		"boot_partition=x\n": `"x" is not the number`, "boot_partition=-1\n": `"-1"`, "boot_partition=64\n": `"64"`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

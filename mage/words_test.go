package mage

import (
	"strings"
	"testing"
)

func TestRunWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage":                       "mage |",
		"mage build x -- y":          "mage build x -- y |",
		"mage run x":                 "mage run x |",
		"mage run x --json":          "mage run x --json |",
		"mage run x --forward 1:2":   "mage run x --forward=1:2 |",
		"mage Run x -forward=1:2":    "mage Run x -forward=1:2 |",
		"mage run x --logs":          "mage run x --logs |",
		"mage run x --keep --logs d": "mage run x --keep --logs=d |",
		"mage run x --forward 1:2 --json --forward=3:4 --Forward 5:6": "mage run x --forward=1:2,3:4,5:6 --json |",
		"mage run x --machine pc -- -device a --forward 1:2":          "mage run x --machine=pc | -device a --forward 1:2",
		"mage run x --": "mage run x |",
	} {
		words, behind := runWords(strings.Fields(line))
		if got := strings.TrimSpace(strings.Join(words, " ") + " | " + strings.Join(behind, " ")); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestExportWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage export":                       "mage export",
		"mage export a":                     "mage export a",
		"mage export a b c":                 "mage export a,b,c",
		"mage Export a b --target=t --json": "mage Export a,b --target=t --json",
		"mage export a --json":              "mage export a --json",
		"mage build a b":                    "mage build a b",
	} {
		if got := strings.Join(exportWords(strings.Fields(line)), " "); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

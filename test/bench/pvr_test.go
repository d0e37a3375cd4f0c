package bench

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tree is what the table says, and the same in every run.
func TestSampleTree(t *testing.T) {
	first := ""
	for range 2 {
		dir := t.TempDir()
		if err := sampleTree(dir); err != nil {
			t.Fatal(err)
		}
		count, size, sum := 0, int64(0), sha256.New()
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			count, size = count+1, size+int64(len(text))
			sum.Write(text)
			return err
		})
		if err != nil || count != 2100 || size < 205e6 || size > 209e6 {
			t.Errorf("%d files of %d bytes, %v", count, size, err)
		}
		if got := string(sum.Sum(nil)); first == "" {
			first = got
		} else if got != first {
			t.Error("the second tree differs")
		}
	}
}

func TestRunCountsAndTellsFailures(t *testing.T) {
	b := &tool{ctx: context.Background(), work: t.TempDir(), program: "sh", cpu: map[string][]float64{}}
	if err := b.run("loop", b.work, b.work, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"); err != nil {
		t.Fatal(err)
	}
	if len(b.cpu["loop"]) != 1 || b.peak <= 0 {
		t.Errorf("%v, %v MiB", b.cpu, b.peak)
	}
	err := b.run("bad", b.work, b.work, "sh", "-c", "echo why >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "why") || len(b.cpu["bad"]) != 0 {
		t.Errorf("%v, %v", err, b.cpu)
	}
}

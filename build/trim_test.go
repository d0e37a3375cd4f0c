package build

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// filled returns a cache with entries "s0" to "sN" of one MiB each, last used the given
// numbers of days ago.
func filled(t *testing.T, days ...int) (*Builder, string) {
	t.Helper()
	dir := t.TempDir()
	b, _ := builder(t, dir)
	for i, d := range days {
		s := &step{Label: string(rune('a' + i)), name: "s"}
		s.do = func(_ context.Context, w *Work) error {
			return os.WriteFile(filepath.Join(w.Out, "file"), bytes.Repeat([]byte(s.Label), 1<<20), 0o644)
		}
		key := build(t, b, s).Step("s").Record.Key
		at := time.Now().Add(-time.Duration(d) * 24 * time.Hour)
		if err := os.Chtimes(filepath.Join(b.Cache.entry(key), "record.json"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	return b, dir
}

func TestTidyRemovesUnusedEntries(t *testing.T) {
	for name, c := range map[string]struct {
		days   []int
		budget int64
		stay   int
	}{
		"age alone":              {[]int{0, 29, 31, 400}, 0, 2},
		"size, the oldest go":    {[]int{0, 3, 4, 5}, 5 << 19, 2},
		"size spares the latest": {[]int{0, 1, 1, 5}, 1, 3},
		"within all bounds":      {[]int{0, 9}, 1 << 30, 2},
	} {
		b, dir := filled(t, c.days...)
		if did, err := b.Cache.Tidy(t.Context(), c.budget); !did || err != nil {
			t.Fatalf("%s: %v, %v", name, did, err)
		}
		t.Run(name, func(t *testing.T) { expectEntries(t, dir, "steps", c.stay) })
	}
}

func TestTidyRunsOnceADay(t *testing.T) {
	b, dir := filled(t, 0)
	for _, want := range []bool{true, false} {
		if did, err := b.Cache.Tidy(t.Context(), 0); did != want || err != nil {
			t.Errorf("got %v, %v, want %v", did, err, want)
		}
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "tidied"), yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	if did, err := b.Cache.Tidy(t.Context(), 0); !did || err != nil {
		t.Errorf("a day later: %v, %v", did, err)
	}
}

func TestTrimSparesARunningBuild(t *testing.T) {
	b, dir := filled(t, 400)
	holding := &step{Label: "2", name: "h", do: func(ctx context.Context, _ *Work) error { return b.Cache.trim(ctx, 0, 1) }}
	build(t, b, holding)
	expectEntries(t, dir, "steps", 2)
	if err := b.Cache.trim(t.Context(), 0, 0); err != nil {
		t.Fatal(err)
	}
	expectEntries(t, dir, "steps", 0)
}

func TestOnlyKeepsWhatIsNamed(t *testing.T) {
	b, dir := filled(t, 0, 0, 0)
	all, err := b.Cache.uses()
	if err != nil {
		t.Fatal(err)
	}
	holding := &step{Label: "h", name: "h", do: func(ctx context.Context, _ *Work) error { return b.Cache.Only(ctx, nil) }}
	build(t, b, holding)
	expectEntries(t, dir, "steps", 4)
	if err := b.Cache.Only(t.Context(), []string{all[1].key, "none"}); err != nil {
		t.Fatal(err)
	}
	expectEntries(t, dir, "steps", 1)
	if _, err := os.Stat(b.Cache.entry(all[1].key)); err != nil {
		t.Error(err)
	}
}

package vulns

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestBadData(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"it is empty":                       "",
		"it ends in the middle":             trackerText[:len(trackerText)/2],
		"it is not of a known form":         `{"hello": "world"}`,
		"it has no records of a known form": `[{"hello": "world"}]`,
		"invalid character":                 `{"openssl": {"CVE-1-1": {]`,
		"CVE-1-1 of openssl":                `{"openssl": {"CVE-1-1": {"releases": []}}}`,
		"cannot unmarshal":                  `{"id": "X", "modified": "x", "affected": {"package": 1}}`,
		"exceeded max depth":                `{"id": "X", "modified": "x", "affected": ` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
		`want '{' at byte`:                  `{"openssl": {"CVE-1-1": {"releases": {}}}, "curl": []}`,
		"a value has more than":             `{"openssl": {"CVE-1-1": {"releases": {"bookworm": {"status": "` + strings.Repeat("x", maxRecord+head) + `"}}}}}`,
		"more than 33554432 bytes":          `{"id": "` + strings.Repeat("x", maxRecord+head) + `"}`,
	} {
		file := filepath.Join(put(t, map[string]string{"data.json": text}), "data.json")
		err := New(system()...).Load(t.Context(), file)
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%v\nwant %q of %.60s", err, want, text)
		}
	}
}

func TestBadPlaces(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"README": "nothing"})
	fifo := filepath.Join(dir, "fifo.json")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, want string
		kind       fault.Kind
	}{
		{filepath.Join(dir, "missing"), "docs/vulns.md says where to get them", fault.Missing},
		{fifo, "it is not a regular file", fault.BadInput},
		{put(t, map[string]string{"README": "nothing", "x.json": `{"a": 1}`, "y.json": "[1]", "z.json": "5"}), "has no vulnerability data of a known form", fault.BadInput},
	} {
		if err := New(system()...).Load(t.Context(), c.path); fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: %v", c.path, fault.Of(err), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(put(t, map[string]string{"t.json": trackerText}), "t.json")
	if err := New(system()...).Load(ctx, file); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBadZips(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good.zip")
	zipped(t, good, map[string]string{"a.json": goText, "b.json": mavenText})
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]func(string){
		"not a valid zip file: fetch it again": func(file string) { write(t, file, text[:len(text)-30]) },
		"checksum error":                       func(file string) { write(t, file, bytes.Replace(text, text[60:64], []byte("\x00\x01\x02\x03"), 1)) },
		"it has no records of a known form":    func(file string) { zipped(t, file, map[string]string{"a.txt": goText, "index.json": "[]"}) },
		// 40 MiB of blanks are 40 KiB in the zip.
		`"bomb.json" in it: more than`: func(file string) { zipped(t, file, map[string]string{"bomb.json": strings.Repeat(" ", 40<<20) + "{}"}) },
		`"half.json" in it: it ends`:   func(file string) { zipped(t, file, map[string]string{"half.json": goText[:100]}) },
	}
	n := 0
	for want, make := range files {
		n++
		file := filepath.Join(dir, fmt.Sprintf("%d.zip", n))
		make(file)
		err := New(system()...).Load(t.Context(), file)
		damaged := want == "checksum error" && err != nil && strings.Contains(err.Error(), "flate")
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) && !damaged {
			t.Errorf("%v\nwant %q", err, want)
		}
	}
}

func write(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCompressedTracker(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(trackerText)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dir := put(t, map[string]string{"t.json.gz": b.String(), "t.json": trackerText})
	var results []*Report
	for _, name := range []string{"t.json", "t.json.gz"} {
		s := New(system()...)
		if err := s.Load(t.Context(), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		results = append(results, s.Report(true))
	}
	if a, b := short(results[0]), short(results[1]); len(a) == 0 || strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Errorf("%q\n%q", a, b)
	}
	if results[0].Data[0].SHA256 == results[1].Data[0].SHA256 {
		t.Error("two files have one digest")
	}
}

// TestTwiceInATracker has a vulnerability twice: what says that the version is affected counts.
func TestTwiceInATracker(t *testing.T) {
	t.Parallel()
	const open, resolved = `"CVE-1-1": {"releases": {"bookworm": {"status": "open"}}}`, `"CVE-1-1": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "0"}}}`
	for _, list := range []string{open + "," + resolved, resolved + "," + open} {
		r := scanned(t, map[string]string{"t.json": `{"openssl": {` + list + `}}`}).Report(false)
		if len(r.Findings) != 1 || r.Findings[0].State != Affected || !strings.Contains(r.Findings[0].Why, "but") {
			t.Errorf("%+v", r.Findings)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		s    Source
		want string
	}{
		{Source{Form: "F", Records: 2, FileTime: now.Add(-49 * time.Hour)}, "F, 2 records, 2 days old"},
		{Source{Form: "F", Records: 2, FileTime: now, Modified: now.AddDate(0, 0, -9)}, "F, 2 records, 9 days old: get newer ones"},
		{Source{Form: "F"}, "F, 0 records"},
		{Source{Form: formOpenVEX, Records: 1, Modified: now.AddDate(-1, 0, 0)}, "OpenVEX, 1 records, 365 days old"},
	} {
		if got := c.s.describe(now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// FuzzLoad gives any text as data: it is read, or refused as bad input.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{trackerText, goText, djangoText, mavenText, cveText("CVE-1-1", "mm/slab.c"), openVEXText(), `{"bomFormat":"CycloneDX"}`, "[1]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "data.json")
		write(t, file, []byte(text))
		s := New(system()...)
		if err := s.Load(t.Context(), file); err != nil && fault.Of(err) != fault.BadInput && fault.Of(err) != fault.Unsupported {
			t.Fatalf("%v: %v", fault.Of(err), err)
		}
		r := s.Report(true)
		var b strings.Builder
		if err := errors.Join(r.Text(&b, time.Now()), r.Markdown(&b, time.Now())); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(b.String(), "\x1b\r\x00") {
			t.Fatal("control characters are in the text")
		}
	})
}

package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// newImage writes an image of 3 MiB with a map beside it.
func newImage(t *testing.T, dir, name string) []byte {
	t.Helper()
	data := bytes.Repeat([]byte("new!"), 3<<18)
	m, err := bmap.Create(t.Context(), bytes.NewReader(data), int64(len(data)), []bmap.Extent{{Offset: 0, Length: 2 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(place, data, 0o644), os.WriteFile(place+".bmap", m.Encode(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return data
}

// messages returns what a workspace has told people.
func messages(w *Workspace) string { return w.Stderr.(*bytes.Buffer).String() }

// TestFlashToFiles: a new file is written, one with content only when the user says so.
func TestFlashToFiles(t *testing.T) {
	w, out := empty(t)
	data := newImage(t, w.Root, "disk.img")
	medium := filepath.Join(w.Root, "medium")
	if err := w.Flash(t.Context(), "disk.img", "medium", FlashOptions{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "medium has disk.img: 2.0 MiB of 3.0 MiB written and verified in") {
		t.Errorf("%s", out)
	}
	if got, err := os.ReadFile(medium); err != nil || !bytes.Equal(got[:2<<20], data[:2<<20]) {
		t.Errorf("the file differs: %v", err)
	}
	for name, c := range map[string]struct {
		o    FlashOptions
		kind fault.Kind
	}{
		"nobody to ask": {FlashOptions{}, fault.BadInput},
		"no":            {FlashOptions{Answers: strings.NewReader("no\n")}, fault.Cancelled},
		"no answer":     {FlashOptions{Answers: strings.NewReader("")}, fault.Cancelled},
		"y":             {FlashOptions{Answers: strings.NewReader("y\n")}, fault.Cancelled},
		"yes":           {FlashOptions{Answers: strings.NewReader("yes\n")}, 0},
		"told":          {FlashOptions{Yes: true}, 0},
	} {
		if err := os.WriteFile(medium, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		err := w.Flash(t.Context(), "disk.img", "medium", c.o)
		if fault.Of(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(medium); err != nil || (info.Size() == 4) != (c.kind != 0) {
			t.Errorf("%s: the file has %d bytes: %v", name, info.Size(), err)
		}
	}
	if text := messages(w); !strings.Contains(text, "overwriting the file "+medium+", 4 B") {
		t.Errorf("%s", text)
	}
}

// TestFlashOfNoImage: that it cannot be read is told before anybody is asked.
func TestFlashOfNoImage(t *testing.T) {
	w, _ := empty(t)
	medium := filepath.Join(w.Root, "medium")
	if err := errors.Join(os.WriteFile(filepath.Join(w.Root, "disk.img.xz"), []byte("not xz"), 0o644), os.WriteFile(medium, []byte("mine"), 0o644)); err != nil {
		t.Fatal(err)
	}
	answers := strings.NewReader("yes\n")
	if err := w.Flash(t.Context(), "disk.img.xz", "medium", FlashOptions{Answers: answers}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "disk.img.xz") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	if answers.Len() != 4 || messages(w) != "" {
		t.Errorf("somebody was asked: %s", messages(w))
	}
}

// TestFlashEvents: the stream has both phases with rate and remaining time, and ends with the
// result, which --json prints alone.
func TestFlashEvents(t *testing.T) {
	w, out := empty(t)
	newImage(t, w.Root, "disk.img")
	w.JSON, w.Events = true, "-"
	if err := w.Flash(t.Context(), "disk.img", "medium", FlashOptions{}); err != nil {
		t.Fatal(err)
	}
	lines := decode(t, out.String())
	seen := map[string]bool{}
	for _, line := range lines {
		seen[line["type"].(string)+" "+text(line["step"])] = true
		if line["type"] == string(build.Progress) && line["done"] != line["total"] && line["left_seconds"] == nil {
			t.Errorf("no remaining time: %v", line)
		}
	}
	for _, want := range []string{"started ", "running writing", "progress writing", "done writing", "running verifying", "progress verifying", "done verifying", "finished ", "result "} {
		if !seen[want] {
			t.Errorf("no event %q in\n%s", want, out)
		}
	}
	result, _ := lines[len(lines)-1]["result"].(map[string]any)
	if result["written"] != float64(2<<20) || result["verified"] != true || result["size"] != float64(3<<20) {
		t.Errorf("%v", result)
	}
	out.Reset()
	w.Events = ""
	if err := w.Flash(t.Context(), "disk.img", "other", FlashOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := decode(t, out.String()); len(got) != 1 || got[0]["device"] != filepath.Join(w.Root, "other") {
		t.Errorf("%s", out)
	}
	out.Reset()
	w.Events = "-"
	damaged := filepath.Join(w.Root, "disk.img")
	if err := os.WriteFile(damaged, make([]byte, 3<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Flash(t.Context(), "disk.img", "other", FlashOptions{Yes: true}); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "incomplete") {
		t.Errorf("%v", err)
	}
	lines = decode(t, out.String())
	last := lines[len(lines)-1]
	if last["type"] != string(build.Finished) || last["code"] != float64(fault.Digest) {
		t.Errorf("%v", last)
	}
}

func text(v any) string { s, _ := v.(string); return s }

// TestImageOfTarget: the image is the one of the last build that went well.
func TestImageOfTarget(t *testing.T) {
	w, _ := empty(t)
	define(t, w, "plain", plain)
	find := func() (string, error) { return w.imageOf("plain") }
	if _, err := find(); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "mage build") {
		t.Errorf("not built: %v", err)
	}
	report := func(r build.Report) {
		data, err := json.Marshal(r)
		if err := errors.Join(err, os.MkdirAll(w.Out("plain"), 0o755), os.WriteFile(filepath.Join(w.Out("plain"), build.ReportName), data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	made := []build.Published{{Path: "plain.pvr.tgz"}, {Path: "disk.img"}, {Path: "disk.img.bmap"}, {Path: "disk.img.xz"}, {Path: "more.img"}, {Path: "more.img.bmap"}}
	report(build.Report{Artefacts: made})
	if got, err := find(); err != nil || got != filepath.Join(w.Out("plain"), "disk.img") {
		t.Errorf("%s, %v", got, err)
	}
	report(build.Report{Artefacts: made[:1]})
	if _, err := find(); fault.Of(err) != fault.Unsupported {
		t.Errorf("no image: %v", err)
	}
	report(build.Report{Artefacts: made, Failure: &build.Failure{Kind: "i/o"}})
	if _, err := find(); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "failed (i/o)") {
		t.Errorf("failed: %v", err)
	}
	for _, word := range []string{"no-such", "a/b.img", ".."} {
		if _, err := w.imageOf(word); fault.Of(err) != fault.Missing {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// TestWhatMustNotBeOverwritten: all reasons at once, each with what allows it.
func TestWhatMustNotBeOverwritten(t *testing.T) {
	t.Parallel()
	mounted := []string{"mounted on /media/x"}
	all := FlashOptions{Permanent: true, Unmount: true}
	for name, c := range map[string]struct {
		disk  flash.Disk
		o     FlashOptions
		wants []string // none: it may be overwritten
	}{
		"removable":        {flash.Disk{}, FlashOptions{}, nil},
		"mounted":          {flash.Disk{Uses: mounted}, FlashOptions{Permanent: true}, []string{"mounted on /media/x", "--unmount"}},
		"mounted, told":    {flash.Disk{Uses: mounted}, FlashOptions{Unmount: true}, nil},
		"built in":         {flash.Disk{Permanent: true}, FlashOptions{Unmount: true}, []string{"--permanent"}},
		"built in, told":   {flash.Disk{Permanent: true}, all, nil},
		"both":             {flash.Disk{Permanent: true, Uses: mounted}, FlashOptions{}, []string{"--unmount", "--permanent"}},
		"system":           {flash.Disk{System: true, Uses: []string{"mounted on /"}}, all, []string{"this machine runs from it (mounted on /)"}},
		"read-only":        {flash.Disk{ReadOnly: true}, all, []string{"read-only"}},
		"system, built in": {flash.Disk{System: true, Permanent: true}, FlashOptions{}, []string{"runs from it", "--permanent"}},
	} {
		err := allowed(&flash.Content{Disk: c.disk}, c.o)
		if (err == nil) != (c.wants == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.wants {
			if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %v", name, want, err)
			}
		}
	}
}

// TestFlashToDisk: on a disk of this machine with a mounted file system, and again after a
// write that was not ended.
func TestFlashToDisk(t *testing.T) {
	w, _ := empty(t)
	newImage(t, w.Root, "disk.img")
	if control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err != nil {
		t.Skipf("no loop devices: %v", err)
	} else {
		_ = control.Close()
	}
	backing := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(backing, make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	system := func(name string, args ...string) string {
		t.Helper()
		got, err := exec.Command(oracle.Program(t, name), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, got)
		}
		return strings.TrimSpace(string(got))
	}
	device := system("losetup", "--show", "-f", backing)
	t.Cleanup(func() { system("losetup", "-d", device) })
	system("mke2fs", "-q", "-L", "my data", device)
	point := t.TempDir()
	system("mount", device, point)

	err := w.Flash(t.Context(), "disk.img", device, FlashOptions{Yes: true})
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "mounted on "+point) {
		t.Errorf("mounted: %v", err)
	}
	for _, want := range []string{device + ", 8.0 MiB, removable", `label "my data"`, `in use   "mounted on ` + point} {
		if !strings.Contains(messages(w), want) {
			t.Errorf("no %q in\n%s", want, messages(w))
		}
	}
	if err := w.Flash(t.Context(), "disk.img", filepath.Base(device), FlashOptions{Yes: true, Unmount: true}); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(w.Root, "disk.img"), make([]byte, 3<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Flash(t.Context(), "disk.img", device, FlashOptions{Yes: true}); fault.Of(err) != fault.Digest {
		t.Errorf("damaged: %v", err)
	}
	newImage(t, w.Root, "disk.img")
	if err := w.Flash(t.Context(), "disk.img", device, FlashOptions{Yes: true}); err != nil {
		t.Error(err)
	}
	if want := `it is incomplete: writing "disk.img" to it, begun`; !strings.Contains(messages(w), want) {
		t.Errorf("no %q in\n%s", want, messages(w))
	}
}

func TestDisksAreListed(t *testing.T) {
	w, out := empty(t)
	if err := w.Disks(); err != nil || !strings.HasPrefix(out.String(), "DISK ") {
		t.Errorf("%v: %s", err, out)
	}
	out.Reset()
	w.JSON = true
	var list []ListedDisk
	if err := w.Disks(); err != nil || json.Unmarshal(out.Bytes(), &list) != nil || list == nil {
		t.Errorf("%v: %s", err, out)
	}
}

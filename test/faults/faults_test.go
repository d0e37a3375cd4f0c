//go:build linux && (amd64 || arm64)

package faults

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fsfault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/verified"
)

// The contents of objects. The first is of both revisions.
var (
	shared  = strings.Repeat("shared", 1000)
	program = strings.Repeat("program", 50_000)
	setting = "a setting that the container may change"
)

const (
	was  = "0"          // the committed revision
	will = "locals/new" // the one that comes
	idle = "locals/old" // garbage
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func stateOf(files map[string]string) *state.State {
	st := state.New(state.Spec)
	for name, text := range files {
		if err := st.SetObject("app/"+name, digest(text)); err != nil {
			panic(err)
		}
	}
	return st
}

var revisions = map[string]*state.State{
	was:  stateOf(map[string]string{"base": shared}),
	will: stateOf(map[string]string{"base": shared, "program": program, "set.bind": setting}),
	idle: stateOf(map[string]string{"program": "old"}),
}

// device is the storage of a device, as after a new start.
type device struct {
	dir     string
	steps   *step.Store
	objects string
	loader  boot.Store
}

func open(dir string) (*device, error) {
	loader, err := boot.Open("grub", dir)
	return &device{dir: dir, steps: step.Open(dir), objects: filepath.Join(dir, "objects"), loader: loader}, err
}

// make makes the storage of a device on which revision was runs, and idle has run.
func (d *device) make() error {
	store, err := objects.Create(d.objects)
	if err != nil {
		return err
	}
	for _, text := range []string{shared, "old"} {
		if _, err := store.Put(context.Background(), strings.NewReader(text), ""); err != nil {
			return err
		}
	}
	for _, rev := range []string{was, idle} {
		err := errors.Join(d.steps.Put(rev, revisions[rev].Raw()), d.layOut(rev), os.MkdirAll(filepath.Join(d.dir, "logs", rev), 0o755))
		if err != nil {
			return err
		}
	}
	return errors.Join(d.steps.MarkDone(was, step.Progress{Status: "DONE"}), d.steps.SetCurrent(was), d.loader.Commit(was))
}

func (d *device) layOut(rev string) error {
	f, err := d.steps.Files(rev, d.objects)
	if err != nil {
		return err
	}
	f.Hash, f.Verified = true, new(verified.Marks)
	return f.Install(context.Background())
}

// put sends a body over the control socket.
func (d *device) put(path, body string) error {
	client, server := net.Pipe()
	defer client.Close()
	s := ctrl.New(ctrl.Options{Objects: d.objects, Steps: d.steps})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.ServeConn(context.Background(), server, ctrl.Caller{Name: ctrl.Runtime, Mgmt: true})
	}()
	go func() {
		_, _ = fmt.Fprintf(client, "PUT %s HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}()
	answer, err := io.ReadAll(bufio.NewReader(client))
	<-ended
	if line, _, _ := strings.Cut(string(answer), "\r\n"); err == nil && line != "HTTP/1.1 200 OK" {
		err = fmt.Errorf("putting %.20s: %s", path, answer)
	}
	return err
}

// update brings the new revision, commits it and collects garbage.
func (d *device) update() error {
	for _, text := range []string{shared, program, setting} {
		if err := d.put("/objects/"+digest(text), text); err != nil {
			return err
		}
	}
	if err := d.put("/steps/"+will, string(revisions[will].Raw())); err != nil {
		return err
	}
	return first(
		func() error { return d.layOut(will) },
		func() error { return d.steps.SetProgress(will, step.Progress{Status: "TESTING"}) },
		func() error { return d.loader.SetTry(will) },
		d.fallsBack,
		func() error { return d.steps.SetCurrent(will) },
		func() error { return d.loader.Commit(will) },
		d.finish,
	)
}

// fallsBack returns an error unless the loader goes back to the committed revision when the
// new one does not start.
func (d *device) fallsBack() error {
	v, err := d.loader.Load()
	if err == nil && v != (boot.Values{Rev: was, Try: will}) {
		err = fmt.Errorf("the loader has %+v while the new revision is tested", v)
	}
	return err
}

// finish is the end of an update whose revision is committed.
func (d *device) finish() error {
	return first(
		func() error { return d.steps.MarkDone(will, step.Progress{Status: "DONE", Percent: 100}) },
		d.collect,
	)
}

// again is what happens at the next start: an update that was not committed is made again.
func (d *device) again() error {
	v, err := d.loader.Load()
	if err == nil {
		err = d.steps.SetCurrent(v.Rev)
	}
	switch {
	case err != nil:
		return err
	case v.Rev == will:
		return d.finish()
	case v.Try != "":
		if err := d.loader.ClearTry(); err != nil {
			return err
		}
	}
	return d.update()
}

// first does one thing after the other until one fails.
func first(things ...func() error) error {
	for _, do := range things {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

func (d *device) collect() error {
	g := &step.Garbage{
		Steps: d.steps, Objects: d.objects, Sweep: []string{filepath.Join(d.dir, "boot")},
		Beside: func(rev string) []string { return []string{filepath.Join(d.dir, "logs", rev)} },
		Keep: func() ([]string, error) {
			v, err := d.loader.Load()
			return []string{v.Rev, v.Try, d.steps.Running()}, err
		},
	}
	_, err := g.Collect(context.Background())
	return err
}

// whole returns what is wrong with the storage, whatever happened to an update.
func (d *device) whole() error {
	v, err := d.loader.Load()
	if err != nil || v.Rev != was && v.Rev != will {
		return fmt.Errorf("the loader boots %+v, %w", v, err)
	}
	revs, err := d.steps.List()
	if err != nil {
		return err
	}
	for _, rev := range []string{v.Rev, v.Try, d.steps.Running()} {
		if rev != "" && !slices.Contains(revs, rev) {
			return fmt.Errorf("revision %s may boot and is not there", rev)
		}
	}
	if v.Rev == was && !d.steps.Done(was) {
		return errors.New("the committed revision is not done any more")
	}
	var errs []error
	for _, rev := range revs {
		errs = append(errs, d.wholeRevision(rev, rev == v.Rev || rev == v.Try))
	}
	names, err := os.ReadDir(d.objects)
	for _, e := range names {
		if state.IsSum(e.Name()) {
			errs = append(errs, d.wholeFile(filepath.Join(d.objects, e.Name()), e.Name()))
		}
	}
	return errors.Join(append(errs, err)...)
}

// wholeRevision checks a revision; one that boots has all of its objects.
func (d *device) wholeRevision(rev string, boots bool) error {
	doc, err := d.steps.State(rev)
	if err != nil || string(doc) != string(revisions[rev].Raw()) {
		return fmt.Errorf("the state of %s is %q, %w", rev, doc, err)
	}
	if _, err := d.steps.ProgressText(rev); err != nil {
		return err
	}
	for _, o := range revisions[rev].Objects() {
		path := filepath.Join(d.steps.Dir(rev), o.Path)
		if _, err := os.Lstat(path); err == nil {
			if err := d.wholeFile(path, o.Sum); err != nil {
				return err
			}
		}
		if _, err := os.Stat(filepath.Join(d.objects, o.Sum)); boots && err != nil {
			return fmt.Errorf("revision %s boots: %w", rev, err)
		}
	}
	return nil
}

func (d *device) wholeFile(path, sum string) error {
	text, err := os.ReadFile(path)
	if err == nil && digest(string(text)) != sum {
		err = fmt.Errorf("%s has %d bytes of other content", path, len(text))
	}
	return err
}

// tree lists the files of a storage with their content.
func tree(t *testing.T, d *device) map[string]string {
	t.Helper()
	v, err := d.loader.Load()
	if err != nil {
		t.Fatal(err)
	}
	out, dir := map[string]string{}, d.dir
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		switch {
		case name == "/boot/grubenv": // it counts trials
			out[name] = fmt.Sprint(v)
			return nil
		case name == "/boot/.grubenv.next": // the next change removes it, when the loader cannot see it
			return nil
		case e.Type().IsRegular():
			text, err := os.ReadFile(path)
			out[name] = digest(strings.ReplaceAll(string(text), dir, "")) // one file says where the objects are
			return err
		case e.Type()&os.ModeSymlink != 0:
			out[name], err = os.Readlink(path)
			return err
		}
		out[name] = "directory"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEveryOperationFails fails each operation of an update in each way.
func TestEveryOperationFails(t *testing.T) {
	fsfault.Isolated(t, func(f *fsfault.Faults) {
		for _, fault := range []fsfault.Fault{
			{Errno: syscall.EIO, Reads: true},
			{Errno: syscall.ENOSPC},
			{Errno: syscall.EROFS, Lasting: true}, // as after a power cut: nothing is written any more
		} {
			want, count := clean(t, f, fault.Reads)
			if count < 50 {
				t.Fatalf("an update takes %d operations only", count)
			}
			for fault.Nth = 1; fault.Nth <= count; fault.Nth++ {
				failOne(t, f, fault, want)
			}
		}
	})
}

// newDevice makes a device in memory.
func newDevice(t *testing.T) (d *device, remove func()) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "faults")
	if err != nil {
		dir = t.TempDir()
	}
	d, err = open(dir)
	if err = errors.Join(err, d.make()); err != nil {
		t.Fatal(err)
	}
	return d, func() { _ = os.RemoveAll(dir) }
}

// clean updates a device without a fault.
func clean(t *testing.T, f *fsfault.Faults, reads bool) (files map[string]string, count int) {
	t.Helper()
	d, remove := newDevice(t)
	defer remove()
	r, err := f.During(fsfault.Fault{Dir: d.dir, Reads: reads}, func() {
		if err := errors.Join(d.update(), d.whole()); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree(t, d), r.Count
}

// failOne updates a device with a fault, and then without.
func failOne(t *testing.T, f *fsfault.Faults, fault fsfault.Fault, want map[string]string) {
	t.Helper()
	d, remove := newDevice(t)
	defer remove()
	var failed error
	fault.Dir = d.dir
	r, err := f.During(fault, func() { failed = d.update() })
	if err != nil {
		t.Fatal(err)
	}
	about := fmt.Sprintf("%v at operation %d, %s, lasting %v: ", fault.Errno, fault.Nth, r.Failed, fault.Lasting)
	if failed != nil && !says(failed, fault.Errno) {
		t.Errorf("%sthe error says nothing of it: %v", about, failed)
	}
	d, err = open(d.dir)
	if err = errors.Join(err, d.whole()); err != nil {
		t.Errorf("%safter %v: %v", about, failed, err)
	}
	if failed != nil {
		if err := d.again(); err != nil {
			t.Errorf("%sanother attempt: %v", about, err)
		}
	}
	if diff := cmp.Diff(want, tree(t, d)); diff != "" {
		t.Errorf("%safter %v the storage differs (-want +got):\n%s", about, failed, diff)
	}
}

// says reports whether an error names its cause.
func says(err error, errno syscall.Errno) bool {
	text := err.Error()
	return strings.Contains(text, errno.Error()) || errno == syscall.ENOSPC && strings.Contains(text, " 507 ")
}

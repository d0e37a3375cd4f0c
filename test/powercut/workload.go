package powercut

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// appSize is about the size of the app that the recorded updates add, in bytes.
const appSize = 10 << 20

// seen is what the device has answered, as a mark in a recording.
type seen struct {
	Revision, Status string // status "" is the request for the update
}

// askedOnce is a status before the request for an update that is never committed.
const askedOnce = "once"

// extentOf says where a partition is, in bytes.
type extentOf struct{ Start, Size int64 }

// recording is what an image went through.
type recording struct {
	Machine emulator.Config // without a disk
	Image   string
	Size    int64      // of the disk
	Parts   []extentOf // the partitions, in their order; the last is the storage
	Storage int64      // where it begins, in bytes
	Loader  string     // PV_BOOTLOADER_TYPE
	Through bool       // the disk has no cache: a write that has returned is on the medium
	GoArch  string
	Log     []entry
	App     [2]int // the part of the log from the first byte of the app's objects to UPDATED
	// AppBytes is the size of these objects.
	AppBytes int
}

// The revisions of the workload, in their order.
const (
	revSame   = "locals/same"   // revision 0 by another name
	revBSP    = "locals/bsp"    // another initrd or boot partition
	revApp    = "locals/app"    // an app more
	revDies   = "locals/dies"   // the app ends at once: without a restart
	revSystem = "locals/system" // a system container ends at once: with a restart
)

// commitDelay is PV_UPDATER_COMMIT_DELAY. On a slow machine a program that ends at once has ended
// by then.
const commitDelay = "10"

// groups are the usual ones without a stable_timeout, which only takes time.
const groups = `[
{"name":"root","restart_policy":"system","status_goal":"STARTED","timeout":240},
{"name":"platform","restart_policy":"system","status_goal":"STARTED","timeout":240},
{"name":"app","restart_policy":"container","status_goal":"STARTED","timeout":240}]`

// recordOptions say what [record] does.
type recordOptions struct {
	Root     string // the source tree
	Story    []chapter
	Most     int // entries
	Progress func(string)
}

// record boots an image and has it make updates that are good and bad, and returns what was
// written to its disk meanwhile.
// What was written until ctx ended is returned with the error. The machine is killed when there are
// most entries, unless that is 0; killed says so.
func record(ctx context.Context, r recording, o recordOptions) (rec *recording, killed bool, err error) {
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return nil, false, err
	}
	defer dir.Remove()
	base, err := os.Open(r.Image)
	if err != nil {
		return nil, false, fault.Wrap(fault.IO, err, "opening the image")
	}
	defer base.Close()
	recorder := newRecorder(newDisk(base, r.Size), o.Most)
	w := &workload{rec: &r, recorder: recorder, progress: o.Progress, st: map[string]json.RawMessage{}, objects: map[string][]byte{}}
	if err := w.prepare(ctx, base, o.Root); err != nil {
		return nil, false, err
	}
	stop, socket, err := serve(dir.Path, recorder)
	if err != nil {
		return nil, false, err
	}
	defer stop()
	cfg := r.Machine
	cfg.Image, cfg.Server, cfg.NoNetwork = "", socket, true
	if w.m, err = emulator.Start(ctx, cfg); err != nil {
		return nil, false, err
	}
	defer w.m.Close()
	killed, err = w.runUntil(ctx, o.Story, recorder.full)
	if err != nil {
		err = fmt.Errorf("%w\nlast lines of the console:\n%s", err, strings.Join(w.m.Console.Tail(40), "\n"))
	}
	w.m.Kill()
	r.Log = recorder.Log()
	return &r, killed, err
}

// runUntil runs a story, until full is closed.
func (w *workload) runUntil(ctx context.Context, story []chapter, full <-chan struct{}) (killed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	var ended error
	go func() {
		defer close(done)
		ended = w.run(ctx, story)
	}()
	select {
	case <-done:
		return false, ended
	case <-full:
		w.m.Kill()
		cancel()
		<-done
		return true, nil
	}
}

// serve has a medium answer at a socket in dir.
func serve(dir string, m medium) (stop func(), socket string, err error) {
	socket = filepath.Join(dir, "nbd")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, "", fault.Wrap(fault.IO, err, "opening the socket of the disk")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serveNBD(l, m) // the machine reports an error of its disk
	}()
	return func() {
		_ = l.Close()
		<-done
	}, socket, nil
}

// chapter is a part of the story of a workload.
type chapter func(*workload, context.Context) error

// everything are all updates, appOnly is the one whose writes are counted, on a device that has
// been updated before.
var (
	everything = []chapter{(*workload).bsp, (*workload).app, (*workload).reboot, (*workload).dies, (*workload).system}
	appOnly    = []chapter{(*workload).same, (*workload).app}
)

// story is what a device is to go through: where the disk is an SD card, which QEMU makes slow, only
// the update that its loader takes part in.
func (r *recording) story() []chapter {
	if r.Through {
		return []chapter{(*workload).bsp}
	}
	return everything
}

// workload is a device that is recorded.
type workload struct {
	rec      *recording
	recorder *recorder
	m        *emulator.Machine
	progress func(string)
	st       map[string]json.RawMessage // of the newest revision
	objects  map[string][]byte          // that the device does not have
}

// prepare makes the objects of all revisions, from those of revision 0.
func (w *workload) prepare(ctx context.Context, base io.ReaderAt, root string) error {
	f, err := openExt4(io.NewSectionReader(base, w.rec.Storage, w.rec.Size-w.rec.Storage))
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the image")
	}
	text, err := f.file("trails/0/.pvr/json", 1<<20)
	if err == nil {
		err = json.Unmarshal(text, &w.st)
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading revision 0 of the image")
	}
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return err
	}
	defer dir.Remove()
	program := filepath.Join(dir.Path, "pv-idle")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./cmd/pv-idle")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+w.rec.GoArch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fault.New(fault.Internal, "building the app: %w\n%s", err, out)
	}
	return w.makeObjects(ctx, f, dir.Path, program)
}

func (w *workload) makeObjects(ctx context.Context, f *ext4, dir, program string) error {
	bsp, err := w.otherBSP(f)
	if err != nil {
		return err
	}
	idle, err := os.ReadFile(program)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the app's program")
	}
	noise := make([]byte, max(appSize-len(idle)/2, 0)) // the program can be compressed
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	app, err := packApp(ctx, filepath.Join(dir, "root.squashfs"), idle, noise)
	if err != nil {
		return fault.Wrap(fault.IO, err, "making the app")
	}
	w.add("bsp", bsp)
	w.add("app", app)
	w.add("good", []byte(containerConfig("/pv-idle")))
	w.add("bad", []byte(containerConfig("/pv-idle -dies")))
	return nil
}

// otherBSP is the file of the BSP that an update changes: revision 0's with another digest.
func (w *workload) otherBSP(f *ext4) ([]byte, error) {
	name, change := "pv-initrd.img", func(data []byte) ([]byte, error) {
		return append(data, make([]byte, block)...), nil // the kernel passes over zeros behind an archive
	}
	if w.slots() {
		_, file := (&slotted{kind: w.rec.Loader}).program()
		name, change = file, otherMaker
	}
	data, err := f.file("trails/0/.pv/"+name, 256<<20)
	if err == nil {
		data, err = change(data)
	}
	return data, fault.Wrap(fault.IO, err, "reading %s of revision 0", name)
}

// slots reports whether the loader starts boot partitions.
func (w *workload) slots() bool { return boot.Slot(w.rec.Loader) != "" }

// packApp makes the app's root file system and returns it.
func packApp(ctx context.Context, path string, idle, noise []byte) (app []byte, err error) {
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	list := []tree.Entry{tree.Bytes("pv-idle", 0o755, idle), tree.Bytes("noise", 0o644, noise)}
	for _, d := range []string{"dev", "etc", "proc", "sys", "run", "tmp"} {
		list = append(list, tree.Dir(d, 0o755))
	}
	err = squashfs.Write(ctx, out, squashfs.Options{}, func(add func(tree.Entry) error) error {
		for _, e := range list {
			if err := add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, out.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func containerConfig(command string) string {
	return "lxc.rootfs.path = overlayfs:/volumes/app/root.squashfs:/volumes/app/lxc-overlay/upper\nlxc.init.cmd = " + command +
		"\nlxc.namespace.keep = user net ipc\nlxc.mount.auto = proc sys:rw\n"
}

// add keeps an object by a name.
func (w *workload) add(name string, data []byte) { w.objects[name] = data }

// sum is the digest of an object as a value of a state.
func (w *workload) sum(name string) json.RawMessage {
	s := sha256.Sum256(w.objects[name])
	return json.RawMessage(`"` + hex.EncodeToString(s[:]) + `"`)
}

// setApp has the newest revision start the app.
func (w *workload) setApp(config, group string) {
	w.st["app/root.squashfs"], w.st["app/lxc.container.conf"] = w.sum("app"), w.sum(config)
	w.st["app/run.json"] = json.RawMessage(`{"#spec":"service-manifest-run@1","config":"lxc.container.conf","drivers":{"manual":[],"optional":[],"required":[]},` +
		`"group":"` + group + `","name":"app","roles":["nobody"],"root-volume":"root.squashfs","storage":{"lxc-overlay":{"persistence":"boot"}},"type":"lxc","volumes":[]}`)
	w.st["app/src.json"] = json.RawMessage(`{"#spec":"service-manifest-src@1","template":"builtin-lxc-docker","args":{"PV_GROUP":"` + group + `"}}`)
}

// run tells the story.
func (w *workload) run(ctx context.Context, story []chapter) error {
	if _, err := w.m.WaitContainers(ctx, emulator.AllReached(2)); err != nil {
		return err
	}
	w.recorder.Mark(seen{"0", "DONE"})
	if err := w.put(ctx, "/user-meta/PV_UPDATER_COMMIT_DELAY", []byte(commitDelay)); err != nil {
		return err
	}
	for _, c := range story {
		if err := c(w, ctx); err != nil {
			return err
		}
	}
	return nil
}

// same updates to a revision that changes nothing.
func (w *workload) same(ctx context.Context) error { return w.update(ctx, revSame, "UPDATED") }

func (w *workload) bsp(ctx context.Context) error {
	var device map[string]json.RawMessage
	err := json.Unmarshal(w.st["device.json"], &device)
	if err == nil {
		device["groups"] = json.RawMessage(groups)
		w.st["device.json"], err = json.Marshal(device)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, err, "changing the groups")
	}
	w.st[w.bspFile()] = w.sum("bsp")
	return w.update(ctx, revBSP, "DONE", "bsp")
}

// bspFile is the key of the file of the BSP that an update changes.
func (w *workload) bspFile() string {
	var run struct {
		Initrd string `json:"initrd"`
		EFIAB  string `json:"efiab"`
	}
	_ = json.Unmarshal(w.st["bsp/run.json"], &run) // an empty name fails at the device
	if w.slots() {
		return "bsp/" + run.EFIAB
	}
	return "bsp/" + run.Initrd
}

func (w *workload) app(ctx context.Context) error {
	w.setApp("good", "app")
	w.rec.App[0] = len(w.recorder.Log())
	if err := w.update(ctx, revApp, "UPDATED", "app", "good"); err != nil {
		return err
	}
	w.rec.App[1] = len(w.recorder.Log())
	w.rec.AppBytes = len(w.objects["app"]) + len(w.objects["good"])
	return nil
}

// reboot has the loader try the app's revision, which is then committed.
func (w *workload) reboot(ctx context.Context) error {
	w.progress("restarting")
	if err := w.m.API.Command(ctx, api.OpReboot, "test"); err != nil {
		return err
	}
	return w.await(ctx, revApp, "DONE")
}

func (w *workload) dies(ctx context.Context) error {
	w.setApp("bad", "app")
	return w.update(ctx, revDies, "ERROR", "bad")
}

func (w *workload) system(ctx context.Context) error {
	w.setApp("bad", "platform")
	if err := w.update(ctx, revSystem, "ERROR"); err != nil {
		return err
	}
	_, err := w.m.WaitContainers(ctx, emulator.AllReached(3)) // after the restart
	return err
}

// update stores the newest revision and runs it.
func (w *workload) update(ctx context.Context, rev, want string, objects ...string) error {
	for _, name := range objects {
		sum := strings.Trim(string(w.sum(name)), `"`)
		if err := w.put(ctx, "/objects/"+sum, w.objects[name]); err != nil {
			return err
		}
	}
	text, err := json.Marshal(w.st)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making a state")
	}
	if err := w.put(ctx, "/steps/"+rev, text); err != nil {
		return err
	}
	w.recorder.Mark(seen{rev, ""})
	if err := w.m.API.Command(ctx, api.OpLocalRun, rev); err != nil {
		return err
	}
	return w.await(ctx, rev, want)
}

func (w *workload) put(ctx context.Context, path string, body []byte) error {
	status, answer, err := w.m.API.Do(ctx, http.MethodPut, path, body)
	if err == nil && status != http.StatusOK {
		err = fault.New(fault.Goal, "sending %s: the device answers %d %s", path, status, answer)
	}
	return err
}

// Pauses between two questions, and the time for the answer to one: a restart swallows it.
const (
	pause  = 100 * time.Millisecond
	answer = 15 * time.Second
)

// await asks until an update has a status, and marks all that it sees.
func (w *workload) await(ctx context.Context, rev, want string) error {
	last := ""
	for {
		ask, cancel := context.WithTimeout(ctx, answer)
		var list []api.Update
		err := w.m.API.Get(ask, "/updates/"+rev, &list)
		cancel()
		if err == nil && len(list) > 0 && list[len(list)-1].Status != last {
			u := list[len(list)-1]
			last = u.Status
			w.recorder.Mark(seen{rev, last})
			w.progress(rev + " is " + last + ": " + u.Message)
			if last == want {
				return nil
			}
			if slices.Contains([]string{"ERROR", "WONTGO", "CANCELED", "DONE"}, last) {
				return fault.New(fault.Goal, "revision %s is %s and not %s: %+v", rev, last, want, u.Failure)
			}
		}
		select {
		case <-w.m.Done():
			return fault.New(fault.Goal, "waiting for revision %s to be %s: the machine went off: %w", rev, want, w.m.Wait(ctx))
		case <-ctx.Done():
			return fault.Wrap(fault.Goal, ctx.Err(), "waiting for revision %s to be %s", rev, want)
		case <-time.After(pause):
		}
	}
}

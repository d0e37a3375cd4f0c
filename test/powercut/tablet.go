package powercut

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/fatfile"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/updater"
	"github.com/pantavisor/pantavisor/runtime/verified"
)

// tablet is a device whose firmware no emulator has. Its disk is one of this machine, whose kernel
// writes the storage and the boot partitions; its updates are the runtime's own, with the runtime's
// own store of boot partitions. Its firmware and its containers are played.
type tablet struct {
	rec      *recording
	recorder *recorder
	progress func(string)
	dir      string // for all that is not on its disk
	loader   *slotted
	devices  map[int]string    // of partitions, by their numbers
	images   map[string][]byte // of boot partitions, packed
	marked   map[seen]bool

	flag      bool // the firmware was asked to try the other partition
	boots     int
	partition int // that was booted
	rev       string
	steps     *step.Store
	store     boot.Store
	updater   *updater.Updater
	cancel    context.CancelFunc
	ended     chan struct{}
	down      chan struct{} // has a value when the device is to restart
}

// Its partitions.
const (
	mebi        = 1 << 20
	tabletSize  = 96 * mebi
	imageNoise  = 600 << 10 // of a boot image, in bytes
	slotTablet  = 8 * mebi
	storageSize = 64 * mebi
)

var tabletParts = []extentOf{{mebi, 5 * mebi}, {8 * mebi, slotTablet}, {16 * mebi, slotTablet}, {24 * mebi, storageSize}}

// recordTablet has a tablet make updates that are good and bad, and records its disk.
func recordTablet(ctx context.Context, kind, dir string, progress func(string)) (rec *recording, err error) {
	t := &tablet{
		rec: &recording{Image: filepath.Join(dir, "tablet.img"), Size: tabletSize, Parts: tabletParts, Storage: tabletParts[3].Start, Loader: kind},
		dir: dir, progress: progress, devices: map[int]string{}, images: map[string][]byte{}, marked: map[seen]bool{}, down: make(chan struct{}, 1),
	}
	t.loader = &slotted{kind: kind, parts: tabletParts, dir: filepath.Join(dir, "loader")}
	if err := t.makeDisk(ctx); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making a disk")
	}
	base, err := os.Open(t.rec.Image)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening the disk")
	}
	defer base.Close()
	t.recorder = newRecorder(newDisk(base, t.rec.Size), 0)
	if err := t.attached(t.recorder, func() error { return t.story(ctx) }); err != nil {
		return nil, fault.Wrap(fault.IO, err, "recording updates")
	}
	t.rec.Log = t.recorder.Log()
	return t.rec, nil
}

// attached does something while this machine has the partitions of a disk.
func (t *tablet) attached(m medium, do func() error) (err error) {
	file := filepath.Join(t.dir, "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	server, err := serveFile(file, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	for i, p := range t.rec.Parts {
		path, detach, err := attach(file, p)
		if err != nil {
			return err
		}
		defer detach()
		t.devices[i+1] = path
	}
	return do()
}

// attach makes a part of a file a block device.
func attach(file string, p extentOf) (path string, detach func(), err error) {
	backing, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	defer unix.Close(backing)
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	defer unix.Close(control)
	const attempts = 64 // others compete for devices
	for range attempts {
		n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", nil, err
		}
		path = "/dev/loop" + strconv.Itoa(n)
		device, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", nil, err
		}
		c := unix.LoopConfig{Fd: uint32(backing)}
		c.Info.Offset, c.Info.Sizelimit, c.Info.Flags = uint64(p.Start), uint64(p.Size), unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(device, &c)
		if err == nil {
			return path, func() { _ = unix.Close(device) }, nil // which detaches it
		}
		_ = unix.Close(device)
		if !errors.Is(err, unix.EBUSY) {
			return "", nil, err
		}
	}
	return "", nil, unix.EBUSY
}

// makeDisk makes the disk with revision 0.
func (t *tablet) makeDisk(ctx context.Context) error {
	f, err := os.Create(t.rec.Image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(t.rec.Size); err != nil {
		return err
	}
	choice := autoboot.Choice{Default: 2, Try: 3}
	selector := map[string]string{autoboot.FileName: choice.Text()}
	if t.rec.Loader == "efiab" {
		selector = map[string]string{autoboot.FileName: choice.BlockText(), autoboot.OnceFile: autoboot.OnceText(0)}
	}
	if _, err := writeFAT(f, t.rec.Parts[0], selector); err != nil {
		return err
	}
	for _, bsp := range []string{"a", "b", "c"} {
		if err := t.makeImage(bsp); err != nil {
			return err
		}
	}
	first, err := unpack(t.images["a"])
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(first, t.rec.Parts[1].Start); err != nil {
		return err
	}
	options := fmt.Sprintf("offset=%d", t.rec.Storage)
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "64bit,metadata_csum", "-E", options, t.rec.Image, fmt.Sprintf("%dK", storageSize>>10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w\n%s", err, out)
	}
	return t.attached(file{f, t.rec.Size}, func() error { return t.firstRevision(ctx) })
}

// file is a medium.
type file struct {
	*os.File
	size int64
}

func (f file) Size() int64  { return f.size }
func (f file) Flush() error { return f.Sync() }

// makeImage makes the image of a boot partition.
func (t *tablet) makeImage(name string) (err error) {
	f, err := os.Create(filepath.Join(t.dir, "slot.img"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(slotTablet); err != nil {
		return err
	}
	noise := make([]byte, imageNoise)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(noise)
	program, _ := t.loader.program()
	used, err := writeFAT(f, extentOf{0, slotTablet}, map[string]string{
		autoboot.RevisionFile: autoboot.Pad("0\n"), program: "program of " + name, "noise.bin": string(noise),
	})
	if err != nil {
		return err
	}
	data := make([]byte, used)
	if _, err := f.ReadAt(data, 0); err != nil {
		return err
	}
	t.images[name], err = compress(data)
	return err
}

func writeFAT(f *os.File, p extentOf, files map[string]string) (int64, error) {
	var list []tree.Entry
	for name, text := range files {
		list = append(list, tree.Bytes(name, 0o644, []byte(text)))
	}
	return fat.Write(f, p.Start, list, fat.Options{Bits: 16, Size: p.Size, Label: "BOOT", Time: time.Unix(1577836800, 0)})
}

// firstRevision puts revision 0 on the storage.
func (t *tablet) firstRevision(ctx context.Context) (err error) {
	if err := t.mount(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(t.storage(), 0)) }()
	if err := t.put(ctx, "0", "a", "app 1"); err != nil {
		return err
	}
	files, err := t.steps.Files("0", t.objectsDir())
	if err != nil {
		return err
	}
	return files.Install(ctx)
}

func (t *tablet) storage() string    { return filepath.Join(t.dir, "storage") }
func (t *tablet) objectsDir() string { return filepath.Join(t.storage(), "objects") }
func (t *tablet) tree() string       { return filepath.Join(t.dir, "tree") }

func (t *tablet) mount() error {
	if err := os.MkdirAll(t.storage(), 0o755); err != nil {
		return err
	}
	if err := unix.Mount(t.devices[4], t.storage(), "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mounting the storage: %w", err)
	}
	t.steps = step.Open(t.storage())
	return nil
}

// put stores a revision with a boot image and containers, each "NAME VERSION", the version with
// "system" when its change takes a restart.
func (t *tablet) put(ctx context.Context, rev, bsp string, containers ...string) error {
	store, err := objects.Create(t.objectsDir())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(t.images[bsp])
	digest := hex.EncodeToString(sum[:])
	if !store.Has(digest) {
		if _, err := store.Put(ctx, bytes.NewReader(t.images[bsp]), digest); err != nil {
			return err
		}
	}
	st := state.New(state.Spec)
	err = errors.Join(st.Set("bsp/run.json", fmt.Appendf(nil, `{"%s":"boot.img.gz"}`, t.rec.Loader)), st.SetObject("bsp/boot.img.gz", digest))
	for _, c := range containers {
		name, version, _ := strings.Cut(c, " ")
		err = errors.Join(err, st.Set(name+"/run.json", fmt.Appendf(nil, `{"version":%q}`, version)))
	}
	if err != nil {
		return err
	}
	return t.steps.Put(rev, st.Encode())
}

// story is what a tablet goes through. Its revisions have the names that say how they end.
func (t *tablet) story(ctx context.Context) error {
	if err := t.boot(ctx); err != nil {
		return err
	}
	defer t.off()
	t.recorder.Mark(seen{"0", "DONE"})
	for _, u := range []struct {
		rev  string
		mode updater.Mode
		want string
		bsp  string
		app  string
	}{
		{"locals/bsp", updater.Run, "DONE", "b", "app 1"},               // another boot image
		{"locals/app", updater.Run, "UPDATED", "b", "app 2"},            // without a restart
		{"locals/commit", updater.RunCommit, "DONE", "b", "app 3"},      // with one, from the same partition
		{"locals/bad-bsp", updater.Run, "ERROR", "c", "app 3"},          // another boot image that does not come up
		{"locals/bad-app", updater.Run, "ERROR", "b", "app 4"},          // without a restart
		{"locals/bad-commit", updater.RunCommit, "ERROR", "b", "app 5"}, // the same partition
		{"locals/back", updater.Run, "DONE", "a", "app 3"},              // the first boot image again
		{"locals/once", updater.TryOnce, "UPDATED", "b", "app 3"},       // never committed
	} {
		if err := t.put(ctx, u.rev, u.bsp, u.app); err != nil {
			return err
		}
		if u.mode == updater.TryOnce {
			t.recorder.Mark(seen{u.rev, askedOnce})
		}
		t.recorder.Mark(seen{u.rev, ""})
		if err := t.updater.Start(ctx, updater.Request{Revision: u.rev, Mode: u.mode}); err != nil {
			return err
		}
		if err := t.await(ctx, u.rev, u.want); err != nil {
			return err
		}
		if u.want != "UPDATED" {
			continue
		}
		if err := t.reboot(ctx); err != nil {
			return err
		}
		if u.mode == updater.TryOnce {
			continue
		}
		if err := t.await(ctx, u.rev, "DONE"); err != nil {
			return err
		}
	}
	return nil
}

// await carries on until an update has a status and the device does not restart any more.
func (t *tablet) await(ctx context.Context, rev, want string) error {
	const patience, pause = time.Minute, 5 * time.Millisecond
	limit := time.Now().Add(patience)
	for time.Now().Before(limit) && ctx.Err() == nil {
		select {
		case <-t.down:
			if err := t.reboot(ctx); err != nil {
				return err
			}
		case <-time.After(pause):
		}
		if status := t.look(rev); status == want && t.updater.Ongoing() == nil {
			t.progress(rev + " is " + status)
			return nil
		}
	}
	return fault.New(fault.Goal, "revision %s is %s, and was to be %s", rev, t.look(rev), want)
}

// look marks what the device tells, and returns what it tells of a revision.
func (t *tablet) look(rev string) (status string) {
	for _, u := range t.updater.Updates() {
		if u.Revision == rev {
			status = u.Status
		}
		if s := (seen{u.Revision, u.Status}); u.Revision != boot.Factory && !t.marked[s] {
			t.marked[s] = true
			t.recorder.Mark(s)
		}
	}
	return status
}

// boot does what firmware and init do.
func (t *tablet) boot(ctx context.Context) error {
	const most = 5
	for range most {
		t.boots++
		if err := t.firmware(); err != nil {
			return err
		}
		if err := t.mount(); err != nil {
			return err
		}
		run, err := t.init(ctx)
		if err != nil || run {
			return err
		}
		if err := unix.Unmount(t.storage(), 0); err != nil {
			return err
		}
	}
	return fault.New(fault.Goal, "no revision runs after %d boots", most)
}

// firmware picks the partition. It says in the device tree, or in a variable, which one that is.
func (t *tablet) firmware() error {
	number, _, err := t.loader.choose(t.recorder.disk)
	if err != nil {
		return err
	}
	tryboot := uint32(0)
	if t.flag {
		number, tryboot, t.flag = 5-number, 1, false // of 2 and 3 the other one
	}
	t.partition = number
	if err := os.MkdirAll(t.tree(), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.tree(), "tryboot"), binary.BigEndian.AppendUint32(nil, tryboot), 0o644); err != nil {
		return err
	}
	if t.rec.Loader != "efiab" {
		return nil
	}
	p, err := t.open(1) // GRUB clears the number before it starts the program, and does not flush
	if err != nil {
		return err
	}
	return errors.Join(fatfile.Write(p, autoboot.OnceFile, []byte(autoboot.OnceText(0))), p.Close())
}

// open opens a partition.
func (t *tablet) open(number int) (boot.Partition, error) {
	return os.OpenFile(t.devices[number], os.O_RDWR, 0)
}

// init starts the runtime; it reports whether the revision may run.
func (t *tablet) init(ctx context.Context) (run bool, err error) {
	t.store, err = boot.OpenOn(t.rec.Loader, t.storage(), boot.Machine{
		Open: t.open, Tree: t.tree(),
		Booted:  func() (int, error) { return t.partition, nil },
		Tryboot: func(on bool) error { t.flag = on; return nil },
		Answers: func() error { return nil },
		BootID:  func() (string, error) { return fmt.Sprint("boot-", t.boots), nil },
	})
	if err != nil {
		return false, err
	}
	if t.rev, err = t.store.(boot.Booter).Booted(); err != nil {
		return false, err
	}
	values, err := t.store.Load()
	if err != nil {
		return false, err
	}
	running := boot.Decide(t.rev, values)
	if err := boot.Started(t.store, running); err != nil {
		return false, err
	}
	journal, err := updater.OpenJournal(t.storage())
	if err != nil {
		return false, err
	}
	t.updater = updater.New(updater.Options{
		Running: running, Store: t.store, Steps: t.steps, Journal: journal, Device: t,
		Settings: func() updater.Settings { return updater.Settings{} }, Log: logs.Logger{Sink: sink(t.progress), Source: "updater"}, Slots: true,
	})
	if !t.updater.Resume() {
		return false, nil
	}
	ctx, t.cancel = context.WithCancel(ctx)
	t.ended = make(chan struct{})
	t.report()
	go func() {
		defer close(t.ended)
		_ = t.updater.Run(ctx)
	}()
	return true, nil
}

// sink passes log lines on.
type sink func(string)

// Log implements logs.Sink.
func (s sink) Log(_, _ string, _ logs.Level, text string) { s(text) }

// off stops the runtime.
func (t *tablet) off() {
	t.cancel()
	<-t.ended
	_ = unix.Unmount(t.storage(), 0) // a later use of the disk fails
}

func (t *tablet) reboot(ctx context.Context) error {
	t.look("")
	t.off()
	return t.boot(ctx)
}

// report is what the engine says of the containers.
func (t *tablet) report() {
	o := engine.Outcome{Revision: t.rev, All: 1, Reached: 1}
	if strings.HasPrefix(t.rev, "locals/bad") {
		f := engine.Failure{Revision: t.rev, Container: "app", Goal: "STARTED", Status: "STOPPED", Reason: "exited with code 3"}
		t.updater.Failed(f)
		o.Reached, o.Below = 0, []engine.Failure{f}
	}
	t.updater.Settled(o)
	t.updater.Stable(true)
}

var _ updater.Device = (*tablet)(nil)

// Load implements updater.Device.
func (t *tablet) Load(rev string) (*state.State, *manifest.System, error) {
	doc, err := t.steps.State(rev)
	if err != nil {
		return nil, nil, err
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, nil, err
	}
	sys := &manifest.System{}
	for _, key := range st.Keys() {
		if name, ok := strings.CutSuffix(key, "/run.json"); ok && name != "bsp" {
			sys.Containers = append(sys.Containers, manifest.Container{Name: name, Restart: manifest.RestartContainer})
		}
	}
	return st, sys, nil
}

// Install implements updater.Device.
func (t *tablet) Install(ctx context.Context, rev string, _ *state.State) error {
	files, err := t.steps.Files(rev, t.objectsDir())
	if err != nil {
		return err
	}
	files.Hash, files.Verified = true, &verified.Marks{}
	return files.Install(ctx)
}

// Swap implements updater.Device.
func (t *tablet) Swap(rev string, _ []string) error {
	t.rev = rev
	t.report()
	return nil
}

// Restart implements updater.Device.
func (t *tablet) Restart(string) error {
	t.down <- struct{}{}
	return nil
}

// Compatible implements updater.Device.
func (*tablet) Compatible(*state.State, *manifest.System) error { return nil }

// Space implements updater.Device.
func (*tablet) Space(string, *state.State) error { return nil }

// Loader implements updater.Device.
func (*tablet) Loader(*state.State) error { return nil }

// Trial implements updater.Device.
func (*tablet) Trial(bool) {}

// Hook implements updater.Device.
func (*tablet) Hook(context.Context, string, updater.Hook) error { return nil }

// Output implements updater.Device.
func (*tablet) Output(string, string) []string { return nil }

// Wake implements updater.Device.
func (*tablet) Wake(bool) {}

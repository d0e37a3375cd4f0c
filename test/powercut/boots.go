package powercut

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// bootLimit is how long a boot may take until the runtime says which revision runs: emulation on
// a busy machine, and of a slow card.
const bootLimit = 10 * time.Minute

// What the console says: the kernel with its first lines (init/main.c), and the runtime with its
// first one (package init).
const (
	kernelBegins = "Kernel command line: "
	initBegins   = " runs ("
)

var runs = regexp.MustCompile(`revision (\S+)` + regexp.QuoteMeta(initBegins))

// booter boots disks of a recording in the emulator. Firmware that has not read the disk is the same
// for each disk, and so is a kernel that has not, if the boot loader gave it the same files and the
// same command line. A machine is saved in both places and goes on with other disks: what reads a
// disk, the loader and the runtime, runs for each.
type booter struct {
	rec     *recording
	dir     *scratch.Dir
	on      string            // a machine that is about to read the disk for the first time; "": none yet
	kernels map[string]string // machines whose kernel is about to, by what was loaded
	started int               // kernels, from their first instruction
}

func newBooter(rec *recording) (*booter, error) {
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return nil, err
	}
	return &booter{rec: rec, dir: dir, kernels: map[string]string{}}, nil
}

func (b *booter) close() { b.dir.Remove() }

// saves reports whether the machine can stop at a read that fails and try it again.
func (b *booter) saves() bool {
	return strings.HasPrefix(b.rec.Machine.Emulator.Complete().Disk, "virtio-blk")
}

// boot starts a disk, whose content stays as it is, until the runtime says which revision it runs, which
// must be rev.
func (b *booter) boot(ctx context.Context, d *disk, rev string) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	t := newTap(newDisk(d, b.rec.Size))
	if b.saves() && b.on == "" {
		if err := b.saveOn(ctx); err != nil {
			return err
		}
	}
	m, err := b.proceed(ctx, t, b.on)
	if err != nil {
		return err
	}
	defer func() { m.stop() }()
	if err := m.expect(ctx, kernelBegins, "\n"); err != nil {
		return err
	}
	if key := b.loaded(d, rev, t, m.said); key == "" {
		b.started++
	} else {
		if b.kernels[key] == "" {
			b.started++
			file, err := b.saveKernel(ctx, m, t)
			if err != nil {
				return err
			}
			b.kernels[key] = file
		}
		m.stop()
		if m, err = b.proceed(ctx, t, b.kernels[key]); err != nil {
			return err
		}
	}
	if err := m.expect(ctx, initBegins); err != nil {
		return err
	}
	said := runs.FindStringSubmatch(m.said)
	if said == nil || said[1] != rev {
		return fmt.Errorf("wrong: not revision %s runs:\n%s", rev, strings.Join(m.Console.Tail(40), "\n"))
	}
	return nil
}

// saveOn has a machine go on until it wants to read the disk for the first time.
func (b *booter) saveOn(ctx context.Context) error {
	t := newTap(newDisk(nothing{}, b.rec.Size))
	m, err := b.start(ctx, t, "")
	if err != nil {
		return err
	}
	defer m.stop()
	t.refuse() // QEMU itself has read the disk before
	if err := m.Continue(ctx); err != nil {
		return err
	}
	file, err := b.save(ctx, m, t, "on")
	if err != nil {
		return err
	}
	b.on = file
	return nil
}

// saveKernel has a machine whose kernel has begun go on until that wants to read the disk.
func (b *booter) saveKernel(ctx context.Context, m *booted, t *tap) (string, error) {
	t.refuse()
	return b.save(ctx, m, t, fmt.Sprint("kernel", len(b.kernels)))
}

// save saves a machine when it has been refused a read.
func (b *booter) save(ctx context.Context, m *booted, t *tap, name string) (string, error) {
	select {
	case <-t.refused:
	case <-m.Done():
		return "", fault.New(fault.Goal, "the machine went off before it has read its disk: %w", m.Wait(ctx))
	case <-ctx.Done():
		return "", fault.New(fault.Goal, "the machine does not read its disk: %w\n%s", ctx.Err(), strings.Join(m.Console.Tail(40), "\n"))
	}
	file := filepath.Join(b.dir.Path, name)
	err := m.Save(ctx, file)
	t.allow()
	return file, err
}

// booted is a machine that starts a disk.
type booted struct {
	*emulator.Machine
	said string // what the last expect has found, with all before it
	stop func()
}

// proceed starts a machine, or goes on with a saved one.
func (b *booter) proceed(ctx context.Context, t *tap, saved string) (*booted, error) {
	m, err := b.start(ctx, t, saved)
	if err != nil || !b.saves() {
		return m, err
	}
	if err := m.Continue(ctx); err != nil {
		m.stop()
		return nil, err
	}
	return m, nil
}

// start starts a machine, which waits for Continue if it can be saved.
func (b *booter) start(ctx context.Context, t *tap, saved string) (*booted, error) {
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return nil, err
	}
	end, socket, err := serve(dir.Path, t)
	if err != nil {
		dir.Remove()
		return nil, err
	}
	cfg := b.rec.Machine
	cfg.Image, cfg.Server, cfg.NoNetwork = "", socket, true
	if b.saves() {
		cfg.Saved, cfg.Paused = saved, true
		cfg.Args = append(cfg.Args[:len(cfg.Args):len(cfg.Args)], "-global", "virtio-blk-device.rerror=stop")
	}
	m, err := emulator.Start(ctx, cfg)
	if err != nil {
		end()
		dir.Remove()
		return nil, err
	}
	return &booted{Machine: m, stop: sync.OnceFunc(func() {
		m.Close()
		end()
		dir.Remove()
	})}, nil
}

// expect waits for texts on the console, one behind the other.
func (m *booted) expect(ctx context.Context, texts ...string) (err error) {
	for _, text := range texts {
		if m.said, err = m.Console.Expect(ctx, text); err != nil {
			return fault.New(fault.Goal, "%w\n%s", err, strings.Join(m.Console.Tail(40), "\n"))
		}
	}
	return nil
}

// loaded is the same for machines whose kernel has got the same files and the same command line:
// the files are those of the revision, and have been read from where they are on this disk. It is
// "" when something of them was not read, so that they are not what was started.
func (b *booter) loaded(d *disk, rev string, t *tap, commandLine string) string {
	if !b.saves() {
		return ""
	}
	list, err := b.rec.bootFiles(d, rev)
	if err != nil {
		return ""
	}
	key := commandLine
	for _, f := range list {
		if !t.hasRead(f.extents) {
			return ""
		}
		key += f.name + " " + f.sum + "\n"
	}
	return key
}

// bootFile is a file that a loader gives to the kernel, or that is the kernel.
type bootFile struct {
	name, sum string
	extents   []extentOf // on the disk
}

// bootFiles are those of a revision on a disk, as the loader reads it.
func (r *recording) bootFiles(d *disk, rev string) (list []bootFile, err error) {
	v, err := newView(d, r.Storage, r.Size)
	if err != nil {
		return nil, err
	}
	st, err := v.state(rev)
	if err != nil {
		return nil, err
	}
	links, err := trail.BootLinks(st, nil)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		f := bootFile{name: link.Name}
		f.sum, _ = st.Object(link.Target)
		in, err := v.files.find(revisionFile(rev, link))
		if err != nil {
			return nil, err
		}
		extents, err := v.files.extents(in)
		if err != nil {
			return nil, err
		}
		for _, x := range extents {
			if size := min(x.length*v.files.size, in.size-x.logical*v.files.size); x.start != 0 && size > 0 {
				f.extents = append(f.extents, extentOf{r.Storage + x.start*v.files.size, size})
			}
		}
		list = append(list, f)
	}
	return list, nil
}

// errRefused is the answer to a read that is to wait.
var errRefused = errors.New("not now")

// tap is a disk that knows which of its sectors were read, and can refuse reads.
type tap struct {
	*disk
	mu      sync.Mutex
	read    []uint64 // a bit for each sector
	closed  bool
	refused chan struct{} // closed by the first read that was refused
}

func newTap(d *disk) *tap {
	return &tap{disk: d, read: make([]uint64, d.size/sector/64+1), refused: make(chan struct{})}
}

// refuse has further reads fail until allow.
func (t *tap) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.refused = true, make(chan struct{})
}

func (t *tap) allow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = false
}

// ReadAt implements io.ReaderAt.
func (t *tap) ReadAt(p []byte, off int64) (int, error) {
	if !t.note(off, int64(len(p))) {
		return 0, errRefused
	}
	return t.disk.ReadAt(p, off)
}

func (t *tap) note(off, n int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		select {
		case <-t.refused:
		default:
			close(t.refused)
		}
		return false
	}
	for s := off / sector; s*sector < off+n && s/64 < int64(len(t.read)); s++ {
		t.read[s/64] |= 1 << (s % 64)
	}
	return true
}

// hasRead reports whether all of some parts were read.
func (t *tap) hasRead(list []extentOf) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range list {
		for s := x.Start / sector; s*sector < x.Start+x.Size; s++ {
			if t.read[s/64]&(1<<(s%64)) == 0 {
				return false
			}
		}
	}
	return true
}

// nothing is a base that is all zeros.
type nothing struct{}

// ReadAt implements io.ReaderAt.
func (nothing) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// Package powercut cuts the power of a device at each moment of its updates. A virtual machine
// makes updates that are good and bad on a disk that this process serves (network block device)
// and that records each write and each flush. The recording is then replayed: at each entry the
// disk is made as a power cut could have left it, with all writes, and with those that were not
// flushed missing, reordered or torn, and is judged without a boot:
//
//   - The boot loader reads the storage without its journal, so its model (package
//     runtime/boot/spec) reads the bytes as they are: the revision that it starts must be the last
//     one that is DONE or the one under test, and what it loads must be what the state says.
//   - The kernel replays the journal when it mounts: so does this package, and e2fsck as a second
//     opinion. All objects of the revision must be whole.
//   - The runtime's own code (package updater, Resume) reads the store, the journal of updates and
//     the revisions, and what it then reports must be right, and all that the device has ever
//     told be remembered.
//
// Some of the disks are booted as well, up to the runtime's first line.
package powercut

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/targets"
)

// Options say what [Run] does.
type Options struct {
	// Root is the source tree.
	Root string
	// Target is what is recorded; it needs an emulator with a channel for the control API.
	Target string
	// Losses is the number of disks that are judged at each write beside the one with all writes.
	Losses int
	// Boots is the number of disks that are booted: those around each change of what the loader
	// does, and others by chance. Negative is one for each write and flush.
	Boots int
	// Kills is the number of machines that are killed at a moment by chance and booted again.
	Kills int
	// Seed chooses.
	Seed uint64
	// Progress is told what happens, in lines.
	Progress func(line string)
}

// Report is what happened to a target.
type Report struct {
	Target   string `json:"target"`
	Moments  int    `json:"moments"` // at which the power was cut
	Disks    int    `json:"disks"`   // that were judged
	Checked  int    `json:"e2fsck"`  // of them by e2fsck, too
	Boots    int    `json:"boots"`
	Kernels  int    `json:"kernels"` // that were started for them; the others had got the same files
	Kills    int    `json:"kills"`
	AppBytes int    `json:"app_bytes"`     // of the objects of an app that was added
	Written  int    `json:"written_bytes"` // to the disk for it, until its update was UPDATED
	// WrittenFor are these bytes by what they are for.
	WrittenFor map[string]int `json:"written_for"`
	CPU        float64        `json:"cpu_seconds"` // of this process and all machines
	Findings   []Finding      `json:"findings"`
}

// Finding is a state of the disk that is not right.
type Finding struct {
	At    int    `json:"at"`    // how many entries of the log had happened
	How   string `json:"how"`   // what became of the writes that were not flushed
	Error string `json:"error"` // a brick, a lost revision or a wrong report
}

// Run records a target and cuts its power. An error is about the harness; what is wrong with the
// device is in the report. One that was cancelled comes with what is known so far.
func Run(ctx context.Context, o Options) (*Report, error) {
	before := cpuSeconds()
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	target, err := targets.Load(targets.Builtin(), o.Target)
	if err != nil {
		return nil, err
	}
	run := runMachine
	if target.Bootloader.Runtime() == "rpiab" { // QEMU does not have its firmware
		run = runTablet
	}
	report, err := run(ctx, o, dir.Path)
	if report != nil {
		report.CPU = cpuSeconds() - before
	}
	return report, err
}

// runMachine has a virtual machine make the updates, and boots disks.
func runMachine(ctx context.Context, o Options, dir string) (*Report, error) {
	r, err := prepare(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	o.Progress(o.Target + ": recording updates")
	rec, _, err := record(ctx, *r, recordOptions{Root: o.Root, Story: r.story(), Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	report, out, err := replayed(ctx, rec, o)
	if err != nil {
		return nil, err
	}
	if err := report.boot(ctx, rec, sample(out, o), o); err != nil {
		return report, err
	}
	return report, report.kill(ctx, *r, len(rec.Log), o)
}

// runTablet has this machine make the updates in place of one that no emulator has.
func runTablet(ctx context.Context, o Options, dir string) (*Report, error) {
	o.Progress(o.Target + ": recording updates, with a stand-in for the firmware")
	rec, err := recordTablet(ctx, "rpiab", dir, o.Progress)
	if err != nil {
		return nil, err
	}
	report, _, err := replayed(ctx, rec, o)
	return report, err
}

// cpuSeconds is the processor time of this process and of those that it has waited for.
func cpuSeconds() (sum float64) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
		}
	}
	return sum
}

// prepare makes the image.
func prepare(ctx context.Context, o Options, dir string) (*recording, error) {
	w, err := workspace.OpenMaker(ctx, o.Root, o.Target, nil)
	if err != nil {
		return nil, err
	}
	if len(w.Target.Emulators) == 0 {
		return nil, fault.New(fault.Unsupported, "target %s has no emulator", o.Target)
	}
	machine, err := w.Machine(ctx, w.Target.Emulators[0], dir)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(machine.Image)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking at the image")
	}
	r := &recording{
		Machine: machine, Image: machine.Image, Size: diskSize(machine, info.Size()), GoArch: w.Target.Arch.Go,
		Loader: w.Target.Bootloader.Runtime(), Through: machine.Emulator.Disk == "sd",
	}
	for _, p := range w.Target.Images[0].Partitions {
		r.Parts = append(r.Parts, extentOf{int64(p.Start), int64(p.Size)})
	}
	r.Storage = r.Parts[len(r.Parts)-1].Start
	return r, nil
}

// diskSize is the size of an image as a disk: that of an SD card is a power of two.
func diskSize(m emulator.Config, size int64) int64 {
	if m.Emulator.Disk != "sd" {
		return size
	}
	n := int64(1)
	for n < size {
		n *= 2
	}
	return n
}

// replayed judges each moment of a recording.
func replayed(ctx context.Context, rec *recording, o Options) (*Report, *outcome, error) {
	o.Progress(fmt.Sprintf("%s: judging the disk at %d moments", o.Target, len(rec.Log)))
	const fsckEvery = 8 // flushes
	out, err := replayLog(ctx, rec, replayOptions{Losses: o.Losses, Seed: o.Seed, Fsck: fsckEvery})
	if err != nil {
		return nil, nil, err
	}
	kinds, err := shares(rec, rec.App[0], rec.App[1])
	if err != nil {
		return nil, nil, fault.Wrap(fault.IO, err, "reading the recording")
	}
	return &Report{
		Target: o.Target, Moments: out.moments, Disks: out.disks, Checked: out.checked, Findings: out.findings,
		AppBytes: rec.AppBytes, Written: written(rec.Log[rec.App[0]:rec.App[1]]), WrittenFor: kinds,
	}, out, nil
}

// written is the number of bytes that were written.
func written(log []entry) (n int) {
	for _, e := range log {
		n += len(e.Data)
	}
	return n
}

// sample chooses the moments that are booted.
func sample(out *outcome, o Options) map[int]bool {
	n := o.Boots
	if n < 0 || n > len(out.picks) {
		n = len(out.picks)
	}
	chosen := map[int]bool{}
	add := func(i int) {
		if i >= 0 && i < len(out.picks) && len(chosen) < n {
			chosen[i] = true
		}
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	for _, k := range rng.Perm(len(out.turns)) {
		add(out.turns[k])
		add(out.turns[k] - 1)
	}
	for _, i := range rng.Perm(len(out.picks)) {
		add(i)
	}
	return chosen
}

// boot boots disks at some moments: the revision of which the runtime speaks must be the one
// that the model of the loader starts.
func (r *Report) boot(ctx context.Context, rec *recording, moments map[int]bool, o Options) error {
	b, err := newBooter(rec)
	if err != nil {
		return err
	}
	defer b.close()
	out, err := replayLog(ctx, rec, replayOptions{Seed: o.Seed, Only: moments, Boot: func(i int, how string, d *disk, rev string) error {
		o.Progress(fmt.Sprintf("%s: boot %d of %d, at %d, %s: revision %s", o.Target, r.Boots+1, len(moments), i+1, how, rev))
		err := b.boot(ctx, d, rev)
		if ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, ctx.Err(), "booting")
		}
		if err != nil {
			o.Progress(fmt.Sprintf("%s: at %d: %v", o.Target, i+1, err))
		}
		r.Boots++
		r.found(i+1, "booted, "+how, err)
		return nil
	}})
	r.Kernels += b.started
	if err != nil {
		return err
	}
	r.Findings = append(r.Findings, out.findings...)
	return nil
}

func (r *Report) found(at int, how string, err error) {
	if err != nil {
		r.Findings = append(r.Findings, Finding{at, how, err.Error()})
	}
}

// kill kills machines in the middle of their updates, when they have written some of what the recorded
// one wrote, judges their disks and boots them.
func (r *Report) kill(ctx context.Context, rec recording, entries int, o Options) error {
	rng := rand.New(rand.NewPCG(o.Seed, 2))
	for range o.Kills {
		most := 1 + rng.IntN(entries)
		o.Progress(fmt.Sprintf("%s: killing a machine after %d writes and flushes", o.Target, most))
		killed, early, err := record(ctx, rec, recordOptions{Root: o.Root, Story: rec.story(), Most: most, Progress: func(string) {}})
		if err != nil {
			return err
		}
		if early {
			r.Kills++
		}
		out, err := replayLog(ctx, killed, replayOptions{})
		if err != nil {
			return err
		}
		r.Findings = append(r.Findings, out.findings...)
		if err := r.boot(ctx, killed, map[int]bool{len(out.picks) - 1: true}, o); err != nil {
			return err
		}
	}
	return nil
}

// Print writes reports as text or as JSON. It returns an error of kind Goal when something is wrong
// with a device.
func Print(out io.Writer, reports []*Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(reports); err != nil {
			return fault.Wrap(fault.IO, err, "printing the reports")
		}
		return verdict(reports)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TARGET\tMOMENTS\tDISKS\tE2FSCK\tBOOTS\tKERNELS\tKILLS\tWRITTEN/APP\tCPU s\tFINDINGS")
	for _, r := range reports {
		ratio := "-"
		if r.AppBytes > 0 {
			ratio = fmt.Sprintf("%.3f", float64(r.Written)/float64(r.AppBytes))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%.0f\t%d\n", r.Target, r.Moments, r.Disks, r.Checked, r.Boots, r.Kernels, r.Kills, ratio, r.CPU, len(r.Findings))
	}
	if err := w.Flush(); err != nil {
		return fault.Wrap(fault.IO, err, "printing the reports")
	}
	for _, r := range reports {
		if r.AppBytes > 0 {
			fmt.Fprintf(out, "%s, written for an app of %d bytes: %s\n", r.Target, r.AppBytes, r.kinds())
		}
		for _, f := range r.Findings {
			fmt.Fprintf(out, "%s, entry %d, %s: %s\n", r.Target, f.At, f.How, f.Error)
		}
	}
	return verdict(reports)
}

// kinds lists what was written for what, the most first.
func (r *Report) kinds() string {
	list := slices.SortedFunc(maps.Keys(r.WrittenFor), func(a, b string) int {
		return cmp.Or(r.WrittenFor[b]-r.WrittenFor[a], strings.Compare(a, b))
	})
	for i, kind := range list {
		list[i] = fmt.Sprintf("%s %d", kind, r.WrittenFor[kind])
	}
	return strings.Join(list, ", ")
}

func verdict(reports []*Report) error {
	n := 0
	for _, r := range reports {
		n += len(r.Findings)
	}
	if n == 0 {
		return nil
	}
	return fault.New(fault.Goal, "cutting the power: %d disks are not what they must be", n)
}

// Flash returns how many bytes are written to the disk of a target when an app of size bytes is
// added, from the first byte of it to the end of its update.
func Flash(ctx context.Context, root, target string) (bytes, size int, err error) {
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return 0, 0, err
	}
	defer dir.Remove()
	r, err := prepare(ctx, Options{Root: root, Target: target}, dir.Path)
	if err != nil {
		return 0, 0, err
	}
	rec, _, err := record(ctx, *r, recordOptions{Root: root, Story: appOnly, Progress: func(string) {}})
	if err != nil {
		return 0, 0, err
	}
	return written(rec.Log[rec.App[0]:rec.App[1]]), rec.AppBytes, nil
}

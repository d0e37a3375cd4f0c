package workspace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// FlashOptions are those of [Workspace.Flash].
type FlashOptions struct {
	// Yes overwrites without a question.
	Yes bool
	// Permanent allows a disk that is built into this machine.
	Permanent bool
	// Unmount unmounts what is mounted of the disk.
	Unmount bool
	// Whole writes blocks that the image does not use, too.
	Whole bool
	// From is a catalogue, its address or path, whose release of a board is flashed: of Version,
	// or of Channel, or the newest stable one. With Key, the file of a public key, it must be signed.
	From, Channel, Version, Key string
	// Answers is where the user answers; nil when nobody can.
	Answers io.Reader
}

// Flashed is what [Workspace.Flash] has done.
type Flashed struct {
	Image  string `json:"image"`
	Device string `json:"device"`
	// Release is that of a catalogue; nil for another image.
	Release *releases.Found `json:"release,omitempty"`
	Size    int64           `json:"size"`    // of the image in bytes
	Bytes   int64           `json:"written"` // without the blocks that the image does not use
	// Verified is always set: what cannot be verified is an error.
	Verified bool    `json:"verified"`
	Direct   bool    `json:"direct"` // past the cache of this machine
	Write    float64 `json:"write_seconds"`
	Verify   float64 `json:"verify_seconds"`
	CPU      float64 `json:"cpu_seconds"`
	// Stale is why this machine still has the partitions of before, if it does.
	Stale string `json:"stale,omitempty"`
}

// Flash writes an image, or that of a target, to a disk or a file, and verifies it.
func (w *Workspace) Flash(ctx context.Context, what, device string, o FlashOptions) error {
	image, release, err := w.imageFor(ctx, what, o)
	if err != nil {
		return err
	}
	device = w.devicePath(device)
	im, err := flash.OpenArchive(ctx, image) // before anybody is asked and anything is unmounted
	if err != nil {
		return err
	}
	disk, err := w.prepare(device, image, o)
	if err != nil {
		return errors.Join(err, im.Close())
	}
	done, err := w.write(ctx, im, device, flash.Options{Whole: o.Whole, Disk: disk})
	if err = errors.Join(err, im.Close()); err != nil {
		return err
	}
	done.Release = release
	return w.tell(done, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "%s has %s: %s of %s written and verified in %.1f s, %s/s\n", device, filepath.Base(image),
			build.Size(done.Bytes), build.Size(done.Size), done.Write+done.Verify, build.Size(int64(float64(done.Bytes)/max(done.Write, 0.001))))
		return err
	})
}

// imageFor returns the image that a word names, or that of a release of a catalogue.
func (w *Workspace) imageFor(ctx context.Context, what string, o FlashOptions) (string, *releases.Found, error) {
	if o.From == "" {
		if o.Channel != "" || o.Version != "" || o.Key != "" {
			return "", nil, fault.New(fault.BadInput, "--channel, --version and --key are for a release of a catalogue: say --from=CATALOGUE, too")
		}
		image, err := w.imageOf(what)
		return image, nil, err
	}
	from := o.From
	if !strings.Contains(from, "://") {
		from = w.path(from)
	}
	place, err := releases.OpenPlace(from)
	if err != nil {
		return "", nil, err
	}
	var key *signing.Public
	if o.Key != "" {
		if key, err = signing.LoadPublic(w.path(o.Key)); err != nil {
			return "", nil, fault.Wrap(fault.BadInput, err, "--key")
		}
	}
	found, err := w.findRelease(ctx, place, what, o)
	if err != nil {
		return "", nil, err
	}
	fmt.Fprintf(w.Stderr, "release  %s %s (%s) of %s\n", found.Name, found.Version, found.Channel, place)
	image, err := w.download(ctx, place, found, key)
	return image, found, err
}

// findRelease returns the release of a board, or of the target whose alias a word is.
func (w *Workspace) findRelease(ctx context.Context, place *releases.Place, board string, o FlashOptions) (*releases.Found, error) {
	catalogue, err := place.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	found, err := catalogue.Find(board, o.Channel, o.Version)
	if err == nil || !directoryName(board) {
		return found, err
	}
	if t, err2 := w.load(board); err2 == nil && t.Name != board {
		return catalogue.Find(t.Name, o.Channel, o.Version)
	}
	return nil, err
}

// downloadsName is the directory of the cache for images of releases.
const downloadsName = "releases"

// download returns the image of a release. How far it is goes to the terminal; events are those of
// writing.
func (w *Workspace) download(ctx context.Context, place *releases.Place, found *releases.Found, key *signing.Public) (string, error) {
	cache, err := build.CacheDir()
	if err != nil {
		return "", err
	}
	quiet := *w
	quiet.Events = ""
	sink, end, err := quiet.sinks()
	if err != nil {
		return "", err
	}
	r := &flashing{sink: sink, device: found.Name, began: time.Now(), cpu: cpuTime()}
	image, err := place.Image(ctx, filepath.Join(cache, downloadsName), found, key, func(done, total int64) {
		r.progress(downloading, done, max(done, total))
	})
	if r.phase != "" { // there was something to download
		r.endPhase(time.Now(), err)
	}
	return image, errors.Join(w.roomFor(err, cache), end())
}

// downloading is what is done before the phases of flash.
const downloading flash.Phase = "downloading"

// imageOf returns the image that a word names: a file, or the one that was built for a target.
func (w *Workspace) imageOf(what string) (string, error) {
	if info, err := os.Stat(w.path(what)); err == nil && !info.IsDir() {
		return w.path(what), nil
	}
	if !directoryName(what) {
		return "", fault.New(fault.Missing, "the image %s is not there", what)
	}
	name := what
	if !w.known(what) {
		return "", fault.New(fault.Missing, "%s is neither an image nor a target: mage targets lists the targets", what)
	}
	if t, err := w.load(what); err == nil {
		name = t.Name // which an alias is not
	}
	path, err := builtImage(w.Out(name))
	return path, fault.Wrap(fault.Missing, err, "looking for the image of %s", what)
}

// builtImage returns the first image that the last build left in a directory.
func builtImage(dir string) (string, error) {
	r, err := build.LoadReport(filepath.Join(dir, build.ReportName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(fault.Missing, "nothing was built yet: mage build makes it (another place: --out=DIR)")
	}
	if err != nil {
		return "", fault.New(fault.Of(err), "%w; mage build makes it anew", err)
	}
	if r.Failure != nil {
		return "", fault.New(fault.Missing, "the last build failed (%s): what is there may not be its result; name the image itself to flash it", r.Failure.Kind)
	}
	for _, a := range r.Artefacts { // the main image is the first that has a block map
		mapped := slices.ContainsFunc(r.Artefacts, func(b build.Published) bool { return b.Path == a.Path+".bmap" })
		if mapped && filepath.IsLocal(a.Path) {
			return filepath.Join(dir, a.Path), nil
		}
	}
	return "", fault.New(fault.Unsupported, "it has no image of a disk; its results are in %s", dir)
}

// devicePath is the path of a device: a word without a slash may be the kernel's name of one.
func (w *Workspace) devicePath(word string) string {
	if directoryName(word) {
		if _, err := os.Stat("/sys/class/block/" + word); err == nil {
			if _, err := os.Stat(w.path(word)); err != nil {
				return "/dev/" + word
			}
		}
	}
	return w.path(word)
}

// prepare shows what will be lost, rejects what must not be overwritten, and asks. It returns the
// disk that was shown, nil for a file.
func (w *Workspace) prepare(device, image string, o FlashOptions) (*flash.Disk, error) {
	info, err := os.Stat(device)
	switch {
	case err == nil && info.Mode().IsRegular():
		if info.Size() == 0 {
			return nil, nil
		}
		fmt.Fprintf(w.Stderr, "overwriting the file %s, %s\n", device, build.Size(info.Size()))
		return nil, w.confirm(device, o)
	case errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(device, "/dev/"):
		return nil, nil
	}
	c, err := flash.Look(device)
	if err != nil {
		return nil, err
	}
	w.describe(c, image)
	if err := allowed(c, o); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "overwriting %s", device)
	}
	if err := w.confirm(device, o); err != nil {
		return nil, err
	}
	return &c.Disk, c.Unmount()
}

// describe shows what is on a disk.
func (w *Workspace) describe(c *flash.Content, image string) {
	fmt.Fprintf(w.Stderr, "writing  %s\nto       %s, %s%s\n", image, c.Path, build.Size(c.Size), kindOf(c.Disk))
	if c.Model != "" {
		fmt.Fprintf(w.Stderr, "model    %q\n", c.Model)
	}
	if c.Mark != nil {
		fmt.Fprintf(w.Stderr, "has      nothing that can be used; it is %s\n", c.Mark)
	}
	if c.Mark == nil && len(c.Volumes) == 0 {
		fmt.Fprintln(w.Stderr, "has      no partition and no file system that is known")
	}
	for _, v := range c.Volumes {
		fmt.Fprintf(w.Stderr, "has      %s\n", v)
	}
	for _, use := range c.Uses {
		fmt.Fprintf(w.Stderr, "in use   %q\n", use)
	}
}

func kindOf(d flash.Disk) string {
	switch {
	case d.System:
		return ", this machine runs from it"
	case d.Permanent:
		return ", built in"
	}
	return ", removable"
}

// allowed returns why a disk must not be overwritten, all reasons, with what allows it.
func allowed(c *flash.Content, o FlashOptions) error {
	var errs []error
	switch {
	case c.System:
		errs = append(errs, fault.New(fault.BadInput, "this machine runs from it (%s): start the machine from another disk to overwrite this one", strings.Join(c.Uses, ", ")))
	case len(c.Uses) > 0 && !o.Unmount:
		errs = append(errs, fault.New(fault.BadInput, "the disk is in use: %s; unmount it, or let --unmount do so", strings.Join(c.Uses, ", ")))
	}
	if c.Permanent && !o.Permanent {
		errs = append(errs, fault.New(fault.BadInput, "the disk is built into this machine; if you mean it, say --permanent"))
	}
	if c.ReadOnly {
		errs = append(errs, fault.New(fault.BadInput, "the disk is read-only: is there a switch on it?"))
	}
	return errors.Join(errs...)
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 256

// confirm asks whether to go on.
func (w *Workspace) confirm(device string, o FlashOptions) error {
	if o.Yes {
		return nil
	}
	if o.Answers == nil {
		return fault.New(fault.BadInput, "overwriting %s: nobody can be asked; say --yes if everything on it may be lost", device)
	}
	fmt.Fprintf(w.Stderr, "Everything on %s will be lost. Type yes to go on: ", device)
	answer, err := bufio.NewReader(io.LimitReader(o.Answers, maxAnswer)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fault.Wrap(fault.IO, err, "reading the answer")
	}
	if strings.TrimSpace(answer) != "yes" {
		return fault.New(fault.Cancelled, "%s was not written: the answer was not yes", device)
	}
	return nil
}

// flashEvery is the time between two events of progress.
const flashEvery = 250 * time.Millisecond

// write writes an image and tells how far it is.
func (w *Workspace) write(ctx context.Context, im *flash.Image, device string, o flash.Options) (*Flashed, error) {
	sink, end, err := w.sinks()
	if err != nil {
		return nil, err
	}
	r := &flashing{sink: sink, device: device, began: time.Now(), cpu: cpuTime()}
	sink.Event(build.Event{Time: r.began, Type: build.Started, Target: device, Total: 2})
	o.Progress = r.progress
	result, err := flash.Write(ctx, im, device, o)
	r.finish(err)
	if err := errors.Join(err, end()); err != nil {
		return nil, err
	}
	done := &Flashed{
		Image: im.Path, Device: device, Size: im.Size, Bytes: result.Bytes, Verified: true, Direct: result.Direct,
		Write: r.took[flash.Writing].Seconds(), Verify: r.took[flash.Verifying].Seconds(), CPU: (cpuTime() - r.cpu).Seconds(),
	}
	if result.Stale != nil {
		done.Stale = result.Stale.Error()
		fmt.Fprintf(w.Stderr, "warning  %s was written, but this machine still has its old partitions (%v): take it out and put it in again\n", device, result.Stale)
	}
	return done, nil
}

// flashing makes events of the progress.
type flashing struct {
	sink   build.Sink
	device string
	began  time.Time
	cpu    time.Duration

	phase flash.Phase // "" before the first
	since time.Time   // of the phase
	last  time.Time   // of the last event
	bytes int64
	took  map[flash.Phase]time.Duration
}

func (r *flashing) progress(p flash.Phase, done, total int64) {
	now := time.Now()
	if p != r.phase {
		r.endPhase(now, nil)
		r.phase, r.since = p, now
		if p == flash.Writing {
			r.since = r.began
		}
		r.sink.Event(build.Event{Time: now, Type: build.Running, Step: string(p), Why: r.device})
	}
	r.bytes = done
	if now.Sub(r.last) < flashEvery && done < total {
		return
	}
	r.last = now
	e := build.Event{Time: now, Type: build.Progress, Step: string(p), Done: done, Total: total, Unit: "bytes"}
	if spent := now.Sub(r.since).Seconds(); spent > 0 && done > 0 {
		e.Rate = float64(done) / spent
		e.Left = float64(total-done) / e.Rate
	}
	r.sink.Event(e)
}

// endPhase tells that a phase has ended.
func (r *flashing) endPhase(now time.Time, err error) {
	if r.phase == "" {
		return
	}
	if r.took == nil {
		r.took = map[flash.Phase]time.Duration{}
	}
	r.took[r.phase] = now.Sub(r.since)
	e := build.Event{Time: now, Type: build.Done, Step: string(r.phase), Bytes: r.bytes, Wall: r.took[r.phase].Seconds()}
	if err != nil {
		e = build.Event{Time: now, Type: build.Failed, Step: string(r.phase), Text: err.Error(), Kind: fault.Of(err).String()}
	}
	r.sink.Event(e)
}

// finish tells that all has ended.
func (r *flashing) finish(err error) {
	now := time.Now()
	r.endPhase(now, err)
	e := build.Event{Time: now, Type: build.Finished, Target: r.device, Wall: now.Sub(r.began).Seconds(), CPU: (cpuTime() - r.cpu).Seconds()}
	if err != nil {
		e.Kind, e.Code = fault.Of(err).String(), int(fault.Of(err))
	}
	r.sink.Event(e)
}

// cpuTime is the processor time of this process so far.
func cpuTime() time.Duration {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// ListedDisk is a disk of [Workspace.Disks].
type ListedDisk struct {
	Path      string   `json:"path"`
	Size      int64    `json:"size"`
	Model     string   `json:"model,omitempty"`
	Removable bool     `json:"removable"`
	System    bool     `json:"system"`
	ReadOnly  bool     `json:"read_only"`
	Uses      []string `json:"uses"`
}

// Disks lists the disks of this machine that have a medium.
func (w *Workspace) Disks() error {
	disks, err := flash.Disks()
	if err != nil {
		return err
	}
	list := []ListedDisk{}
	for _, d := range disks {
		list = append(list, ListedDisk{
			Path: d.Path, Size: d.Size, Model: d.Model, Removable: !d.Permanent, System: d.System, ReadOnly: d.ReadOnly, Uses: slices.Clone(d.Uses),
		})
	}
	return w.tell(list, func(out io.Writer) error {
		table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "DISK\tSIZE\tKIND\tMODEL\tIN USE")
		for i, d := range list {
			fmt.Fprintf(table, "%s\t%s\t%s\t%q\t%q\n", d.Path, build.Size(d.Size), strings.TrimPrefix(kindOf(disks[i]), ", "), d.Model, strings.Join(d.Uses, ", "))
		}
		return table.Flush()
	})
}

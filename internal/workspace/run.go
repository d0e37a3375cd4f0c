package workspace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/targets"
)

// RunOptions say how [Workspace.Run] boots an image.
type RunOptions struct {
	// Machine is the name of one of the target's emulators. Default: the first.
	Machine string
	// Forward are port forwards in the form of targets.ParseForward.
	Forward []string
	// Settle is how long the containers must be stable, as for time.ParseDuration. Default: 10s.
	Settle string
	// Logs is a directory for the logs of console and device. Default: none.
	Logs string
	// JUnit is a file for a report of the containers in JUnit's form. Default: none.
	JUnit string
	// Keep lets the disk stay in the target's output directory for the next run with it.
	Keep bool
	// Args are further arguments of QEMU.
	Args []string
}

// fill checks the options and adds them to those of the emulator.
func (r RunOptions) fill(o *emulator.Options) error {
	for _, text := range r.Forward {
		f, err := targets.ParseForward(text)
		if err != nil {
			return err
		}
		o.Forward = append(o.Forward, f)
	}
	if len(o.Forward) > 0 && o.Emulator.Complete().Network == "none" {
		return fault.New(fault.BadInput, "--forward: the machine has no network")
	}
	if r.Settle != "" {
		d, err := time.ParseDuration(r.Settle)
		if err != nil || d < 0 {
			return fault.New(fault.BadInput, "--settle=%s is not a duration such as 10s or 2m", r.Settle)
		}
		if o.Settle = d; d == 0 {
			o.Settle = -1
		}
	}
	o.Logs, o.Args = r.Logs, r.Args
	return nil
}

// Run builds a target and boots its image on one of its emulators.
func (w *Workspace) Run(ctx context.Context, target string, r RunOptions) error {
	judged := false
	err := w.run(ctx, target, r, func(s emulator.Summary, err error) error {
		judged = true
		told := w.Log.Summarize("- " + bootLine(s, err))
		if r.JUnit == "" {
			return told
		}
		return errors.Join(told, suiteOf(s, err).Save(w.path(r.JUnit)))
	})
	if err != nil && !judged && r.JUnit != "" { // a report of an earlier run would be taken for one of this
		err = errors.Join(err, unbooted(target, err).Save(w.path(r.JUnit)))
	}
	return err
}

// run is Run; judged gets the summary of a run without a terminal.
func (w *Workspace) run(ctx context.Context, target string, r RunOptions, judged func(emulator.Summary, error) error) error {
	t, err := w.loadWhole(target)
	if err != nil {
		return err
	}
	e, err := t.Machine(r.Machine)
	if err != nil {
		return err
	}
	o := emulator.Options{
		Target: t.Name, Emulator: *e, Containers: 1, // the device lists all that its revision has, or none yet
		Interactive: w.Options.Interactive, JSON: w.JSON, Stdin: os.Stdin, Stdout: w.Stdout, Stderr: w.Stderr, Judged: judged,
		Headless: r.JUnit != "",
	}
	if b := t.Budgets; b != nil {
		o.Budgets = emulator.Budgets{BootTime: time.Duration(b.BootTime) * time.Second, Memory: int64(b.Memory)}
	}
	if err := r.fill(&o); err != nil {
		return err
	}
	if t.Installer != nil {
		return fault.New(fault.Unsupported, "target %s makes no image to boot: it is an installation medium, which wants a second disk; "+
			"what it installs is booted by mage run %s, and the medium itself by mage boards --target=%s", t.Name, t.Definition, t.Name)
	}
	if o.Logs != "" {
		if err := os.MkdirAll(o.Logs, 0o755); err != nil { // before the work
			return fault.Wrap(fault.IO, err, "making the directory of --logs")
		}
	}
	if r.Keep {
		o.Keep = filepath.Join(w.Out(t.Name), "run", e.Complete().Name)
	}
	return w.boot(ctx, t, o)
}

// boot builds the target and boots its image.
func (w *Workspace) boot(ctx context.Context, t *targets.Target, o emulator.Options) error {
	e, target := &o.Emulator, t.Name
	if err := w.find(&e.BIOS, &e.Loader); err != nil {
		return err
	}
	if err := emulator.Ensure(ctx, *e, w.Options.Interactive, w.Stderr); err != nil {
		return err
	}
	quiet := *w
	quiet.JSON = false
	report, comp, err := quiet.build(ctx, target)
	if err != nil {
		return err
	}
	made := comp.Outputs[images.OutputImage]
	if len(made) == 0 {
		return fault.New(fault.Unsupported, "target %s makes no image to boot", target)
	}
	if !w.Options.Debug && !t.Debug {
		fmt.Fprintf(w.Stderr, "this image has no debug shell; PANTAVISOR_DEBUG=yes mage run %s makes one that has\n", target)
	}
	o.Image = filepath.Join(w.Out(target), filepath.FromSlash(made[0].To))
	tmp, err := scratch.New("pv-kernel-")
	if err != nil {
		return fmt.Errorf("putting the initrd together: %w", err)
	}
	defer tmp.Remove()
	if err := w.loads(ctx, t, &o, tmp.Path); err != nil {
		return err
	}
	if o.Keep != "" {
		o.ImageSum = sumOf(report, made[0].To)
		w.tellKept(o)
	}
	return w.emulate(ctx, o)
}

// sumOf returns the SHA-256 of a published file.
func sumOf(r *build.Report, file string) string {
	for _, p := range r.Artefacts {
		if p.Path == file {
			return p.SHA256
		}
	}
	return ""
}

// tellKept says where the disk stays, and warns of one that does not have the new image.
func (w *Workspace) tellKept(o emulator.Options) {
	if from := emulator.KeptFrom(o.Keep); from != "" && from != o.ImageSum {
		fmt.Fprintf(w.Stderr, "warning  the disk in %s was made from an earlier image, not from the one just built; remove the directory to begin with that\n", o.Keep)
		return
	}
	fmt.Fprintf(w.Stderr, "the disk is in %s and stays there for the next run with --keep; remove it to begin with a new image\n", o.Keep)
}

// bootImage boots an image of another build system in the machine of a target, until so many
// containers are at their goals.
func (w *Workspace) bootImage(ctx context.Context, target, image string, containers int) error {
	t, err := w.loadWhole(target)
	if err != nil {
		return err
	}
	e, err := t.Machine("")
	if err != nil {
		return err
	}
	if err := w.find(&e.BIOS, &e.Loader); err != nil {
		return err
	}
	return emulator.Run(ctx, emulator.Options{
		Target: filepath.Base(image), Emulator: *e, Image: image, Containers: containers, Interactive: w.Options.Interactive, Headless: true,
		Stdout: w.Stderr, Stderr: w.Stderr,
	})
}

// find makes paths of the workspace absolute. Those of the host are so already.
func (w *Workspace) find(paths ...*string) error {
	for _, p := range paths {
		if *p == "" || filepath.IsAbs(*p) {
			continue
		}
		l, err := w.Sources()
		if err != nil {
			return err
		}
		place, _ := l.Find(filepath.ToSlash(filepath.Clean(*p)))
		*p = place.Path
	}
	return nil
}

// emulate boots the image. Where events go to Stdout, the summary is the last line there.
func (w *Workspace) emulate(ctx context.Context, o emulator.Options) error {
	w.Log.Open("boot of " + o.Target)
	defer w.Log.Close()
	if !w.eventsOut() {
		return emulator.Run(ctx, o)
	}
	var summary bytes.Buffer
	o.JSON, o.Stdout = true, &summary
	err := emulator.Run(ctx, o)
	if summary.Len() == 0 {
		return err
	}
	return errors.Join(err, w.Print(json.RawMessage(summary.Bytes())))
}

// loads fills in what QEMU itself loads; see [job.loads].
func (w *Workspace) loads(ctx context.Context, t *targets.Target, o *emulator.Options, tmp string) error {
	if e := o.Emulator.Complete(); e.Boot != "kernel" && e.DTB == "" && e.BootFile == "" && len(e.Arguments) == 0 {
		return nil
	}
	quiet := *w
	quiet.Events = "" // those of the build are written
	j, err := quiet.open(ctx, t.Name)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // the build's own error says more
	cfg := emulator.Config{Emulator: o.Emulator}
	err = j.loads(ctx, t, j.comp, &cfg, tmp)
	o.Emulator, o.Kernel, o.Initrd, o.DTB, o.Append, o.AppendAt = cfg.Emulator, cfg.Kernel, cfg.Initrd, cfg.DTB, cfg.Append, cfg.AppendAt
	return err
}

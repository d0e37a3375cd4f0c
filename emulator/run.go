package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/targets"
)

// Options say what `mage run` does with an image.
type Options struct {
	// Target is the target's name, for messages.
	Target string
	// Emulator is the target's machine.
	Emulator targets.Emulator
	// Image is the composed image; it is not changed.
	Image string
	// Kernel, Initrd, DTB and Append are for machines with boot: kernel; see [Config].
	Kernel, Initrd, DTB, Append string
	// AppendAt is for machines whose U-Boot gets Append from the disk; see [Config].
	AppendAt int64
	// Containers is the number of containers that must reach their goals. Default: 1.
	Containers int
	// Accelerator is "tcg" or "kvm". Default: what an observer finds.
	Accelerator string
	// Forward are ports of the host that lead to the device, beside the emulator's own.
	Forward []targets.Forward
	// Args are further arguments of QEMU.
	Args []string
	// Keep is the directory in which the disk stays; see [Config]. Default: it does not.
	Keep string
	// ImageSum is the SHA-256 of Image for a disk that stays; see [Config].
	ImageSum string
	// Logs is the directory that gets what the serial console shows, and the device's log
	// files before it is powered off. Default: none.
	Logs string
	// Interactive false never installs packages (PV_BUILD_INTERACTIVE=false).
	Interactive bool
	// Headless boots, waits, sums up and powers off even on a terminal.
	Headless bool
	// JSON prints the summary as JSON on Stdout.
	JSON bool
	// Stdin, Stdout and Stderr: the console when both Stdin and Stdout are
	// terminals. Messages go to Stderr, the summary to Stdout.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Stall is how long nothing new may come from the console or of a container
	// before the goals count as not reached, Limit how long it may take in all. Defaults: 2
	// and 15 minutes, under acceleration 30 seconds and 3 minutes.
	Stall, Limit time.Duration
	// Settle is how long each container must stay at its goal, beside the stable_timeout of
	// its recovery policy. Default: 10 seconds; negative: not at all.
	Settle time.Duration
	// Budgets are checked without a terminal, when all containers are stable.
	Budgets Budgets
	// Judged, if it is set, gets the summary of a run without a terminal and its error, nil when it
	// went well.
	Judged func(s Summary, err error) error
	// PowerOff is how long the device may take to shut down. Default: 90 seconds; an
	// open debug shell holds it for up to PV_DEBUG_SHELL_TIMEOUT, a minute.
	PowerOff time.Duration

	serial io.Writer // of Logs; nil without
}

// Summary is what a run without a terminal finds.
type Summary struct {
	Target      string          `json:"target"`
	Accelerator string          `json:"accelerator"`
	Reached     bool            `json:"reached"`          // every container has reached its goal and stayed there
	CleanOff    bool            `json:"clean_off"`        // the device powered off by itself
	JudgedBy    string          `json:"judged_by"`        // "control API" or "console", which lists no containers
	BootSeconds float64         `json:"boot_seconds"`     // from QEMU's start to the last goal, or to the failure; wall clock
	Memory      *Memory         `json:"memory,omitempty"` // when all containers were stable; only by the control API
	OverBudget  []string        `json:"over_budget,omitempty"`
	Containers  []api.Container `json:"containers"`
	Failures    []Failure       `json:"failures,omitempty"`
	LastLines   []string        `json:"last_lines,omitempty"` // of the console, when a goal was not reached
}

func (o *Options) defaults() {
	set := func(d *time.Duration, tcg, kvm time.Duration) {
		switch {
		case *d != 0:
		case o.Accelerator == "kvm":
			*d = kvm
		default:
			*d = tcg
		}
	}
	set(&o.Stall, 2*time.Minute, 30*time.Second)
	set(&o.Limit, 15*time.Minute, 3*time.Minute)
	set(&o.PowerOff, 90*time.Second, 90*time.Second)
	set(&o.Settle, 10*time.Second, 10*time.Second)
	o.Settle = max(o.Settle, 0)
	o.Limit += o.Settle
	o.Containers = max(o.Containers, 1)
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
}

// Run boots an image. On a terminal it shows the device's console until the user
// leaves it; [escape] and q is the way out (docs/run.md). Elsewhere it waits until every
// container has reached its goal and has been stable, prints a summary and powers the
// device off. A container that does not get there, or that ends or is started again before,
// is an error of kind Goal with the last lines of its log and of the console. When ctx is
// cancelled the power is cut.
func Run(ctx context.Context, o Options) error {
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if err := Ensure(ctx, o.Emulator, o.Interactive, o.Stderr); err != nil {
		return err
	}
	if o.Accelerator == "" {
		o.Accelerator = Accelerator(ctx, o.Emulator)
	}
	o.defaults()
	if o.Logs != "" {
		serial, err := o.openSerial()
		if err != nil {
			return err
		}
		defer serial.Close()
		o.serial = serial
	}
	m, err := Start(ctx, Config{
		Emulator: o.Emulator, Image: o.Image, Accelerator: o.Accelerator, Forward: o.Forward, Keep: o.Keep, ImageSum: o.ImageSum,
		Kernel: o.Kernel, Initrd: o.Initrd, DTB: o.DTB, Append: o.Append, AppendAt: o.AppendAt, Args: o.Args,
	})
	if err != nil {
		return err
	}
	defer m.Close()
	if o.serial != nil {
		m.Console.CopyTo(o.serial)
	}
	in, inOK := o.Stdin.(*os.File)
	out, outOK := o.Stdout.(*os.File)
	if !o.Headless && inOK && outOK && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd())) {
		return o.terminal(ctx, m, in, out)
	}
	return o.headless(ctx, m)
}

// openSerial makes the directory of logs and the file for the serial console.
func (o *Options) openSerial() (*os.File, error) {
	if err := os.MkdirAll(o.Logs, 0o755); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making the directory of --logs")
	}
	f, err := os.Create(filepath.Join(o.Logs, serialLog))
	return f, fault.Wrap(fault.IO, err, "opening the serial console's log")
}

func (o *Options) headless(ctx context.Context, m *Machine) error {
	s := Summary{Target: o.Target, Accelerator: o.Accelerator}
	fmt.Fprintf(o.Stderr, "booting %s (%s)\n", o.Target, o.Accelerator)
	observer := o.observer(m)
	s.JudgedBy = observer.String()
	err := o.await(ctx, m, observer, &s)
	s.Reached = err == nil
	var f failed
	if errors.As(err, &f) {
		m.explain(ctx, f)
		s.Failures = f
	}
	var over error
	if err != nil {
		s.LastLines = m.Console.Tail(lastLines)
	} else {
		o.observe(ctx, m, &s)
		over = o.check(&s)
	}
	saved := o.save(ctx, m)
	off := o.powerOff(ctx, m)
	s.CleanOff = off == nil && m.CanPowerOff() && ctx.Err() == nil
	err = errors.Join(o.verdict(ctx, s, err), over, saved, off)
	if o.Judged != nil {
		err = errors.Join(err, o.Judged(s, err))
	}
	return errors.Join(err, o.print(s))
}

// save writes the device's logs where they are asked for.
func (o *Options) save(ctx context.Context, m *Machine) error {
	if o.Logs == "" || ctx.Err() != nil {
		return nil
	}
	return m.saveLogs(ctx, o.Logs)
}

const lastLines = 40

// verdict makes the error of goals that were not reached.
func (o *Options) verdict(ctx context.Context, s Summary, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.Wrap(fault.Cancelled, context.Cause(ctx), "running %s", o.Target)
	}
	var f failed
	if errors.As(err, &f) {
		return fault.New(fault.Goal, "running %s: %w\nlast lines of the console:\n%s", o.Target, f, strings.Join(s.LastLines, "\n"))
	}
	var missed []string
	for _, c := range s.Containers {
		if !Reached(c) {
			missed = append(missed, missedText(c))
		}
	}
	if len(missed) == 0 && s.JudgedBy == byConsole {
		missed = []string{"the console does not say so"}
	}
	if len(missed) == 0 && len(s.Containers) >= o.Containers {
		missed = []string{fmt.Sprintf("not every container was stable for %v and its stable_timeout", o.Settle)}
	}
	if len(missed) == 0 {
		missed = []string{fmt.Sprintf("%d of %d containers answer", len(s.Containers), o.Containers)}
	}
	return fault.New(fault.Goal, "running %s: goals not reached: %s: %w\nlast lines of the console:\n%s",
		o.Target, strings.Join(missed, "; "), err, strings.Join(s.LastLines, "\n"))
}

func missedText(c api.Container) string {
	text := fmt.Sprintf("%s is %s instead of %s", c.Name, c.Status, c.StatusGoal)
	if c.StatusReason != "" {
		text += " (" + c.StatusReason + ")"
	}
	return text
}

// await waits until the observer knows its verdict, tells every change, and fills in the
// summary. It gives up when nothing new happens for o.Stall: emulation is slow, but
// something always moves. A container that comes back to what it was goes in circles; from
// then on only states that were never seen are new, and the console, which tells of each
// round, no longer counts.
func (o *Options) await(ctx context.Context, m *Machine, observer observer, s *Summary) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("not within %v", o.Limit))
	defer cancel()
	ctx, stalled := context.WithCancelCause(ctx)
	defer stalled(nil)
	watch := time.AfterFunc(o.Stall, func() { stalled(fmt.Errorf("nothing changed for %v", o.Stall)) })
	defer watch.Stop()
	var circles atomic.Bool
	go func() {
		for ctx.Err() == nil {
			select {
			case <-m.Console.News():
				if !circles.Load() {
					watch.Reset(o.Stall)
				}
			case <-ctx.Done():
			case <-m.Done():
				return
			}
		}
	}()
	seen := &sightings{last: map[string]string{}, ever: map[string]bool{}}
	cs, err := observer.wait(ctx, func(cs []api.Container, atGoals bool) {
		if o.tell(m, cs, seen) || atGoals {
			watch.Reset(o.Stall)
		}
		if atGoals && s.BootSeconds == 0 {
			s.BootSeconds = m.Uptime().Seconds()
			fmt.Fprintf(o.Stderr, "[%5.1fs] all goals are reached; waiting until the containers are stable\n", s.BootSeconds)
		}
		circles.Store(seen.again)
	})
	s.Containers = cs
	if s.BootSeconds == 0 {
		s.BootSeconds = m.Uptime().Seconds()
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// sightings are the states that containers were seen in.
type sightings struct {
	last  map[string]string // what was told, by container
	ever  map[string]bool   // by container and status
	again bool              // one came back to a state it had left
}

// add records a status with its full text and reports whether the text differs from the
// last one, and whether the status has not been seen before.
func (s *sightings) add(name, status, text string) (changed, fresh bool) {
	if s.last[name] == text {
		return false, false
	}
	s.last[name] = text
	key := name + " " + status
	fresh = !s.ever[key]
	s.ever[key] = true
	s.again = s.again || !fresh
	return true, fresh
}

// tell prints what has changed since the last call and reports whether any of it is new.
func (o *Options) tell(m *Machine, cs []api.Container, seen *sightings) (news bool) {
	for _, c := range cs {
		now := fmt.Sprintf("%s (goal %s)", c.Status, c.StatusGoal)
		if c.StatusReason != "" {
			now += ": " + c.StatusReason
		}
		changed, fresh := seen.add(c.Name, c.Status, now)
		if changed {
			fmt.Fprintf(o.Stderr, "[%5.1fs] %s: %s\n", m.Uptime().Seconds(), c.Name, now)
		}
		news = news || fresh
	}
	return news
}

// powerOff ends the machine: cleanly, or by cutting the power when ctx is cancelled, for
// whoever cancels does not wait.
func (o *Options) powerOff(ctx context.Context, m *Machine) error {
	select {
	case <-m.Done():
		return m.Wait(context.WithoutCancel(ctx))
	default:
	}
	if ctx.Err() != nil {
		m.Kill()
		return nil
	}
	if !m.CanPowerOff() {
		fmt.Fprintf(o.Stderr, "cutting the power: the machine %s has neither a power button nor a channel to its device\n", o.Emulator.Complete().Name)
		m.Kill()
		return nil
	}
	fmt.Fprintln(o.Stderr, "powering off")
	return m.Shutdown(ctx, o.PowerOff)
}

func (o *Options) print(s Summary) error {
	if o.JSON {
		enc := json.NewEncoder(o.Stdout)
		enc.SetIndent("", "  ")
		return fault.Wrap(fault.IO, enc.Encode(s), "printing the summary")
	}
	w := tabwriter.NewWriter(o.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CONTAINER\tGROUP\tSTATUS\tGOAL\tREACHED")
	for _, c := range s.Containers {
		group := "-"
		if c.Group != nil {
			group = *c.Group
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%v\n", c.Name, group, c.Status, c.StatusGoal, Reached(c))
	}
	if err := w.Flush(); err != nil {
		return fault.Wrap(fault.IO, err, "printing the summary")
	}
	memory := ""
	if s.Memory != nil {
		memory = fmt.Sprintf(", %.1f of %.1f MiB of memory in use", mebi(s.Memory.Used), mebi(s.Memory.Total))
	}
	_, err := fmt.Fprintf(o.Stdout, "%s: goals reached: %v, %.1f s by %s%s, clean power-off: %v\n",
		s.Target, s.Reached, s.BootSeconds, s.Accelerator, memory, s.CleanOff)
	return fault.Wrap(fault.IO, err, "printing the summary")
}

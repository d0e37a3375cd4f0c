package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
)

// word returns an argument, "" when it is not there.
func word(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

func begin(t *tool, args []string) error {
	return t.Begin(t.ctx, pvtx.Begin{Base: word(args, 0), Objects: word(args, 1), Replace: true})
}

func add(t *tool, args []string) error {
	f, err := t.file(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	return t.Add(t.ctx, f)
}

func remove(t *tool, args []string) error {
	gone, err := t.Remove(args[0])
	if err == nil && len(gone) == 0 {
		t.warn(fmt.Sprintf("nothing of the transaction belongs to %q", args[0]))
	}
	return err
}

func show(t *tool, _ []string) error {
	doc, err := t.Show()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "%s\n", doc)
	return err
}

func status(t *tool, _ []string) error {
	s, err := t.Status()
	if err != nil {
		return err
	}
	if t.json {
		return t.print(s)
	}
	lines := []string{"status   " + s.Status}
	if s.Objects != "" {
		lines = append(lines, "objects  "+s.Objects)
	}
	if s.Queue != "" {
		lines = append(lines, "queue    "+s.Queue)
	}
	for _, name := range s.Queued {
		lines = append(lines, "step     "+name)
	}
	for _, name := range s.Parts {
		lines = append(lines, "part     "+name)
	}
	_, err = fmt.Fprintln(t.stdout, strings.Join(lines, "\n"))
	return err
}

func diff(t *tool, _ []string) error {
	d, err := t.Diff(t.ctx)
	if err != nil {
		return err
	}
	if t.json {
		return t.print(d)
	}
	return t.printDifference(d)
}

func (t *tool) printDifference(d pvtx.Difference) error {
	_, err := fmt.Fprintln(t.stdout, strings.Join(client.Difference(d), "\n"))
	return err
}

// errBlocked is the error of an update that cannot be done.
var errBlocked = errors.New("the update cannot be done")

func check(t *tool, _ []string) error {
	r, err := t.Check(t.ctx)
	switch {
	case err != nil:
		return err
	case t.json:
		err = t.print(r)
	default:
		err = t.printDifference(r.Difference)
		t.printDevice(r.Device)
		for _, b := range r.Blockers {
			fmt.Fprintln(t.stdout, "blocker  "+b)
		}
	}
	if err == nil && len(r.Blockers) > 0 {
		return errBlocked
	}
	return err
}

// printDevice prints how the device would get to the transaction's state.
func (t *tool) printDevice(u *api.UpdateCheck) {
	if u == nil {
		return
	}
	for _, line := range client.Transition(u) {
		fmt.Fprintln(t.stdout, line)
	}
}

// committed is what commit prints as JSON.
type committed struct {
	Revision string      `json:"revision"`
	Update   *api.Update `json:"update,omitempty"` // how it went, with --wait
}

func commit(t *tool, args []string) error {
	if t.wait && !t.run {
		return fmt.Errorf("%w: --wait is for --run", errUsage)
	}
	rev, err := t.Commit(t.ctx, pvtx.Commit{Revision: word(args, 0), Message: t.message})
	if err != nil {
		return err
	}
	if !t.json {
		fmt.Fprintln(t.stdout, rev)
	}
	if !t.run {
		if t.json {
			return t.print(committed{Revision: rev})
		}
		return nil
	}
	return t.follow(rev)
}

// errFailed is the error of a revision that was run and does not stay.
var errFailed = errors.New("the update failed")

// follow runs a revision and, with --wait, prints how the update goes. As JSON the revision
// is printed in any case: it is stored.
func (t *tool) follow(rev string) error {
	done := committed{Revision: rev}
	var err error
	if t.wait {
		done.Update, err = t.RunToEnd(t.ctx, rev, client.Watch{
			Busy: func() { t.warn("another update is in progress, waiting for its end") },
			Step: func(s api.UpdateStep) error {
				_, err := fmt.Fprintf(t.stderr, "%s  %-10s  %s\n", s.Time, s.Status, s.Message)
				return err
			},
		})
	} else {
		err = t.Run(t.ctx, rev)
	}
	if t.json {
		err = errors.Join(err, t.print(done))
	}
	if u := done.Update; err == nil && u != nil && u.Failure != nil {
		err = fmt.Errorf("%w: %s; pvcontrol updates why %s says more", errFailed, u.Failure.Text, rev)
	}
	return err
}

func deploy(t *tool, args []string) error { return t.Deploy(t.ctx, args[0]) }

func abort(t *tool, _ []string) error { return t.Abort(t.ctx) }

func queueNew(t *tool, args []string) error { return t.NewQueue(args[0], args[1]) }

func queueRemove(t *tool, args []string) error { return t.QueueRemove(args[0]) }

func queueUnpack(t *tool, args []string) error {
	f, err := t.file(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	name := args[0]
	if name == "-" {
		name = ""
	}
	return t.QueueUnpack(t.ctx, name, f)
}

func queueProcess(t *tool, args []string) error {
	return t.QueueProcess(t.ctx, pvtx.Process{Base: word(args, 0), Queue: word(args, 1), Objects: word(args, 2)})
}

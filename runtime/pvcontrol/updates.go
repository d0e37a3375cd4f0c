package pvcontrol

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// update asks for an update by posting v. With --wait it is asked for again until the one before
// has ended, and then followed to its end; as JSON, each status is a line.
func (t *tool) update(rev, path string, v any) error {
	if !t.wait {
		return t.send("POST", path, v)
	}
	send := func() error {
		req, err := client.WithJSON("POST", path, v)
		if err != nil {
			return err
		}
		return t.client.Send(t.ctx, req)
	}
	u, err := t.client.Update(t.ctx, rev, send, client.Watch{
		Busy: func() {
			if !t.json {
				fmt.Fprintln(t.stderr, "another update is in progress, waiting for its end")
			}
		},
		Step: t.sayStep,
	})
	if err != nil {
		return err
	}
	return failed(u)
}

func (t *tool) sayStep(s api.UpdateStep) error {
	if !t.json {
		return t.say(pathLine(s))
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return t.say(string(text))
}

// failed is the error of an update that did not succeed.
func failed(u *api.Update) error {
	if u.Status != "ERROR" && u.Status != "WONTGO" {
		return nil
	}
	return errors.New(strings.TrimSuffix(why(u), "\n"))
}

func (t *tool) say(text string) error { return t.output(strings.NewReader(text), true) }

func pathLine(s api.UpdateStep) string {
	return fmt.Sprintf("%s  %-10s  %s\n", s.Time, s.Status, s.Message)
}

// listUpdates prints a line for each update.
func listUpdates(t *tool, _ []string) error {
	if t.json {
		return t.show(&client.Request{Path: "/updates"})
	}
	var list []api.Update
	if err := t.client.Fetch(t.ctx, "/updates", &list); err != nil {
		return err
	}
	var b strings.Builder
	for _, u := range list {
		fmt.Fprintf(&b, "%4d  %s  %-10s  %-24s  %s\n", u.Number, u.Path[len(u.Path)-1].Time, u.Status, u.Revision, u.Message)
	}
	return t.say(b.String())
}

// showUpdate prints the path of the updates of a revision.
func showUpdate(t *tool, args []string) error {
	var late []api.Container // and what is left of the time of each
	if !t.json {
		if err := t.client.Fetch(t.ctx, "/containers", &late); err != nil {
			return err
		}
	}
	return t.explain(args[0], func(b io.Writer, u *api.Update) {
		fmt.Fprintf(b, "update %d: %s from %s (%s)", u.Number, u.Revision, u.From, u.Mode)
		if u.When != "" {
			fmt.Fprintf(b, ", at: %s", u.When)
		}
		fmt.Fprintln(b)
		for _, s := range u.Path {
			fmt.Fprint(b, "  "+pathLine(s))
		}
		for _, g := range u.Groups {
			if g.TimeoutRemaining == nil {
				continue
			}
			fmt.Fprintf(b, "  group %s: %d of %d s are left\n", g.Name, *g.TimeoutRemaining, g.Timeout)
			for i := range late {
				if c := &late[i]; c.Group != nil && *c.Group == g.Name && c.TimeoutRemaining != nil {
					fmt.Fprintf(b, "    container %s is %s; %d of %d s are left to be %s\n", c.Name, c.Status, *c.TimeoutRemaining, c.Timeout, c.StatusGoal)
				}
			}
		}
		if u.Failure != nil {
			fmt.Fprintf(b, "  why: %s\n", u.Failure.Text)
		}
	})
}

// whyUpdate prints why the last update of a revision failed.
func whyUpdate(t *tool, args []string) error {
	if t.json {
		return t.show(&client.Request{Path: "/updates/" + args[0]})
	}
	var list []api.Update
	if err := t.client.Fetch(t.ctx, "/updates/"+args[0], &list); err != nil {
		return err
	}
	return t.say(why(&list[len(list)-1]))
}

// why is the reason of a failure as text.
func why(u *api.Update) string {
	f := u.Failure
	if f == nil {
		return fmt.Sprintf("revision %s has not failed: it is %s, %s\n", u.Revision, u.Status, u.Message)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "revision %s is %s: %s\n", u.Revision, u.Status, u.Message)
	fmt.Fprintf(&b, "what failed: %s: %s\n", f.Check, f.Text)
	if f.Container != "" {
		fmt.Fprintf(&b, "container:   %s (group %s), %s, wanted %s\n", f.Container, f.Group, f.Status, f.Goal)
	}
	if f.Exit != "" {
		fmt.Fprintf(&b, "its end:     %s, started again %d times\n", f.Exit, f.Retries)
	}
	if len(f.Log) > 0 {
		fmt.Fprintf(&b, "last lines:\n  %s\n", strings.Join(f.Log, "\n  "))
	}
	return b.String()
}

// explain prints something about each update of a revision.
func (t *tool) explain(rev string, write func(io.Writer, *api.Update)) error {
	if t.json {
		return t.show(&client.Request{Path: "/updates/" + rev})
	}
	var list []api.Update
	if err := t.client.Fetch(t.ctx, "/updates/"+rev, &list); err != nil {
		return err
	}
	var b strings.Builder
	for i := range list {
		write(&b, &list[i])
	}
	return t.say(b.String())
}

// stageUpdate asks for an update at the next reboot, or at a time.
func stageUpdate(t *tool, args []string) error {
	r := api.UpdateRequest{Revision: args[0], When: "reboot"}
	if len(args) > 1 {
		r.When = args[1]
	}
	return t.update(r.Revision, "/updates", r)
}

// runUpdate is order for the operations that begin an update.
func runUpdate(op string) func(*tool, []string) error {
	return func(t *tool, args []string) error {
		return t.update(args[0], "/commands", api.Command{Op: op, Payload: args[0]})
	}
}

// makeFactory is order for the operation that changes the factory revision and runs it.
func makeFactory(t *tool, args []string) error {
	const factory = "0"
	return t.update(factory, "/commands", api.Command{Op: api.OpMakeFactory, Payload: strings.Join(args, "")})
}

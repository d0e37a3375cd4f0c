package emulator

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// observer finds out whether a booted device reaches its goals. A further way to ask a
// device, for example over its network, is another observer.
type observer interface {
	fmt.Stringer // what a summary calls it

	// wait returns when every container has reached its goal and stayed there, with the
	// containers as far as the observer can list them; a container that did not stay is an
	// error of type failed. look is called with what there is at each look, and whether
	// all are at their goals.
	wait(ctx context.Context, look func(cs []api.Container, atGoals bool)) ([]api.Container, error)
}

var (
	_ observer = apiObserver{}
	_ observer = consoleObserver{}
)

// observer picks the one that knows most.
func (o *Options) observer(m *Machine) observer {
	if m.API != nil {
		return apiObserver{m, o.Containers, o.Settle}
	}
	return consoleObserver{m.Console, o.Settle}
}

// apiObserver asks the control API for the containers, which must be some.
type apiObserver struct {
	m      *Machine
	least  int
	settle time.Duration
}

func (apiObserver) String() string { return "control API" }

func (j apiObserver) wait(ctx context.Context, look func([]api.Container, bool)) ([]api.Container, error) {
	g := newGate(j.least, j.settle)
	cs, err := j.m.WaitContainers(ctx, func(cs []api.Container) bool {
		over := g.look(cs, time.Now())
		look(cs, AllReached(j.least)(cs))
		return over
	})
	if err == nil && len(g.failures) > 0 {
		err = failed(g.failures)
	}
	return cs, err
}

const byConsole = "console"

// The engine says how the start of a revision ended in one line of its log, which the
// console shows with stdout or stdout.pantavisor in PV_LOG_SERVER_OUTPUTS:
// "ready: all 2 containers ..." or "not ready: ...".
const (
	settledMark = "ready: "
	missedMark  = "not " + settledMark
)

// consoleObserver reads the console of a device that cannot be asked.
type consoleObserver struct {
	console *Console
	settle  time.Duration
}

func (consoleObserver) String() string { return byConsole }

func (j consoleObserver) wait(ctx context.Context, look func([]api.Container, bool)) ([]api.Container, error) {
	if _, err := j.console.Ready(ctx); err != nil {
		return nil, err
	}
	look(nil, true)
	return nil, j.stay(ctx)
}

// Ready waits until the engine's log says that all containers have reached their goals, and
// returns how many there are. One whose time was over, which is soon in an emulated machine, may
// do so later, as for an observer that asks the control API; any other is an error.
func (c *Console) Ready(ctx context.Context) (containers int, err error) {
	out, err := c.Expect(ctx, settledMark)
	if err != nil {
		return 0, fault.Wrap(fault.Goal, err, "reading the console (PV_LOG_SERVER_OUTPUTS needs stdout)")
	}
	from := c.found()
	rest, err := c.Expect(ctx, "\n")
	if err != nil {
		return 0, fault.Wrap(fault.Goal, err, "reading the console")
	}
	if m := countForm.FindStringSubmatch(rest); m != nil {
		containers, _ = strconv.Atoi(m[1]) // digits
	}
	if !strings.HasSuffix(out, missedMark) {
		return containers, nil
	}
	return containers, fault.Wrap(fault.Goal, c.late(ctx, out, from), "the device says %s%s", missedMark, strings.TrimSpace(rest))
}

// late waits for the containers that were late by the log; from is where it ends.
func (c *Console) late(ctx context.Context, log string, from int64) error {
	late := lateLine.FindAllStringSubmatch(log, -1)
	if len(late) == 0 || strings.Count(log, belowMark) > len(late) {
		return errors.New("not only for lack of time")
	}
	for _, m := range late {
		if line := "container " + m[1] + " is now " + m[2]; !c.waitFor(ctx, from, []string{line}) {
			return fmt.Errorf("waiting for %q on the console in vain", line)
		}
	}
	return nil
}

// countForm is in the line with the outcome.
var countForm = regexp.MustCompile(`(\d+) containers reached their goals`)

// lateLine is how the engine's log says that a container needs longer, belowMark is in the line
// of each container below its goal.
var lateLine = regexp.MustCompile(`container (\S+) did not reach (\S+): it is \S+: time is over`)

const belowMark = ": it is "

// stay watches the console while the containers have to be stable.
func (j consoleObserver) stay(ctx context.Context) error {
	select {
	case <-time.After(j.settle):
	case <-ctx.Done():
		return fmt.Errorf("waiting for stable containers: %w", ctx.Err())
	}
	if list := failuresIn(strings.Join(j.console.Tail(maxConsole), "\n")); len(list) > 0 {
		return failed(list)
	}
	return nil
}

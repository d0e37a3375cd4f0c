package emulator

import (
	"context"
	"errors"
	"fmt"
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
	out, err := j.console.Expect(ctx, settledMark)
	if err != nil {
		return nil, fault.Wrap(fault.Goal, err, "reading the console (PV_LOG_SERVER_OUTPUTS needs stdout)")
	}
	rest, err := j.console.Expect(ctx, "\n")
	if err != nil {
		return nil, fault.Wrap(fault.Goal, err, "reading the console")
	}
	if strings.HasSuffix(out, missedMark) {
		return nil, errors.New("the device says " + missedMark + strings.TrimSpace(rest))
	}
	look(nil, true)
	return nil, j.stay(ctx)
}

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

package emulator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// judge finds out whether a booted device reaches its goals. A further way to ask a
// device, for example over its network, is a further judge.
type judge interface {
	fmt.Stringer // what a summary calls it

	// wait returns when every container has reached its goal, with the containers as far as
	// the judge can list them. changed is called with what there is at each look.
	wait(ctx context.Context, changed func([]api.Container)) ([]api.Container, error)
}

var (
	_ judge = apiJudge{}
	_ judge = consoleJudge{}
)

// judge picks the one that knows most.
func (o *Options) judge(m *Machine) judge {
	if m.API != nil {
		return apiJudge{m, o.Containers}
	}
	return consoleJudge{m.Console}
}

// apiJudge asks the control API for the containers, which must be some.
type apiJudge struct {
	m     *Machine
	least int
}

func (apiJudge) String() string { return "control API" }

func (j apiJudge) wait(ctx context.Context, changed func([]api.Container)) ([]api.Container, error) {
	all := AllReached(j.least)
	return j.m.WaitContainers(ctx, func(cs []api.Container) bool {
		changed(cs)
		return all(cs)
	})
}

const byConsole = "console"

// The engine says how the start of a revision ended in one line of its log, which the
// console shows with stdout or stdout.pantavisor in PV_LOG_SERVER_OUTPUTS:
// "ready: all 2 containers ..." or "not ready: ...".
const (
	settledMark = "ready: "
	missedMark  = "not " + settledMark
)

// consoleJudge reads the console of a device that cannot be asked.
type consoleJudge struct{ console *Console }

func (consoleJudge) String() string { return byConsole }

func (j consoleJudge) wait(ctx context.Context, _ func([]api.Container)) ([]api.Container, error) {
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
	return nil, nil
}

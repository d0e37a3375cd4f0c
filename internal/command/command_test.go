package command

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestRunSaysWhatTheProgramSaid(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]struct {
		kind fault.Kind
		text string
	}{
		"true":                           {},
		"echo out; echo err >&2; exit 1": {fault.IO, "running sh: out\nerr"},
		"echo No space left on device >&2; exit 1":   {fault.NoSpace, "No space left"},
		"yes long | head -c 1000000; echo e; exit 1": {fault.IO, "\ne: exit status 1"},
	} {
		err := Run(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", script), "sh")
		if fault.Of(err) != want.kind || err != nil && (!strings.Contains(err.Error(), want.text) || len(err.Error()) > tailSize+100) {
			t.Errorf("%s: kind %v: %v", script, fault.Of(err), err)
		}
	}
}

func TestOutputThatIsWantedIsLeftAlone(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "echo out")
	cmd.Stdout = &out
	if err := Run(t.Context(), cmd, "sh"); err != nil || out.String() != "out\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestRunIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, exec.CommandContext(ctx, "sleep", "60"), "sleep"); fault.Of(err) != fault.Cancelled {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

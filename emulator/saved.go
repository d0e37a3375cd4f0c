package emulator

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// stateSaved is how often QEMU is asked whether it has written or read a machine's state.
const stateSaved = 10 * time.Millisecond

// Save stops the machine, writes its memory and its devices to a file, and ends it. Another machine
// goes on from there, with Config.Saved, the same Emulator and Args, and a disk of its own: that of
// this machine is not in the file. A request to the disk that was answered with an error goes on as
// one to the other disk, if Args have the disk stop the machine then (QEMU: rerror=stop).
func (m *Machine) Save(ctx context.Context, file string) error {
	defer m.Kill()
	unbounded := map[string]any{"max-bandwidth": int64(1) << 40} // bytes a second
	if err := m.qmp.ask(ctx, "migrate-set-parameters", unbounded, nil); err != nil {
		return fault.Wrap(fault.IO, err, "saving the machine")
	}
	if err := m.qmp.execute(ctx, "stop"); err != nil {
		return fault.Wrap(fault.IO, err, "saving the machine")
	}
	if err := m.qmp.ask(ctx, "migrate", map[string]any{"uri": "exec:cat > " + shellWord(file)}, nil); err != nil {
		return fault.Wrap(fault.IO, err, "saving the machine")
	}
	return m.poll(ctx, "query-migrate", func(status string) (bool, error) {
		if status == "failed" || status == "cancelled" {
			return false, fault.New(fault.IO, "saving the machine: QEMU says %s", status)
		}
		return status == "completed", nil
	})
}

// Continue lets a machine run that waits: one with Config.Saved or Config.Paused.
func (m *Machine) Continue(ctx context.Context) error {
	err := m.poll(ctx, "query-status", func(status string) (bool, error) { return status != "inmigrate", nil })
	if err == nil {
		err = m.qmp.execute(ctx, "cont")
	}
	return fault.Wrap(fault.IO, err, "continuing the machine")
}

// poll asks QEMU for a status until it is the last one, or the machine has ended.
func (m *Machine) poll(ctx context.Context, question string, last func(status string) (bool, error)) error {
	for {
		var answer struct {
			Status string `json:"status"`
		}
		if err := m.qmp.ask(ctx, question, nil, &answer); err != nil {
			return err
		}
		if done, err := last(answer.Status); done || err != nil {
			return err
		}
		select {
		case <-m.done:
			return m.exitErr
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stateSaved):
		}
	}
}

// waiting are the arguments of a machine that does not run at once.
func waiting(cfg Config) []string {
	switch {
	case cfg.Saved != "":
		return []string{"-S", "-incoming", "exec:cat " + shellWord(cfg.Saved)}
	case cfg.Paused:
		return []string{"-S"}
	}
	return nil
}

// shellWord quotes a path for the shell that QEMU starts.
func shellWord(path string) string {
	return "'" + strings.ReplaceAll(filepath.Clean(path), "'", `'\''`) + "'"
}

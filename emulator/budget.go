package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// Budgets are the most that a boot may take; 0 is no limit.
type Budgets struct {
	// BootTime is from QEMU's start until all containers have reached their goals.
	BootTime time.Duration
	// Memory is what may be in use when all containers are stable, in bytes.
	Memory int64
}

// Memory is the memory of a device, in bytes.
type Memory struct {
	Total int64 `json:"total"`
	// Used is what programs cannot get: caches that the kernel can drop are not in use.
	Used int64 `json:"used"`
}

// memory asks the device for its memory. It is nil when the device, one with an earlier runtime,
// does not tell.
func (a *API) memory(ctx context.Context) (*Memory, error) {
	var meta map[string]json.RawMessage
	if err := a.Get(ctx, "/device-meta", &meta); err != nil {
		return nil, err
	}
	if meta["memory"] == nil {
		return nil, nil
	}
	return memoryOf(meta["memory"])
}

// memoryOf reads the value "memory" of the device metadata.
func memoryOf(value json.RawMessage) (*Memory, error) {
	var said struct {
		Total     int64 `json:"total"`
		Available int64 `json:"available"`
	}
	if err := json.Unmarshal(value, &said); err != nil || said.Total <= 0 {
		return nil, fault.New(fault.Unreachable, "reading the memory of the device: it says %.200q", value)
	}
	return &Memory{Total: said.Total, Used: max(said.Total-said.Available, 0)}, nil
}

// observe adds the memory of a device whose containers are stable to the summary. It is asked only
// over the control API.
func (o *Options) observe(ctx context.Context, m *Machine, s *Summary) {
	if m.API == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	memory, err := m.API.memory(ctx)
	if err != nil {
		fmt.Fprintf(o.Stderr, "warning  %v\n", err)
		return
	}
	s.Memory = memory
}

// check compares a boot that went well with its budgets.
func (o *Options) check(s *Summary) error {
	var over []string
	took := time.Duration(s.BootSeconds * float64(time.Second))
	if most := o.Budgets.BootTime; most > 0 && took > most {
		over = append(over, fmt.Sprintf("the boot took %.1f s by %s, its budget is %.0f s (budgets.boot_time in target.yaml)", took.Seconds(), s.Accelerator, most.Seconds()))
	}
	switch most := o.Budgets.Memory; {
	case most == 0:
	case s.Memory == nil:
		fmt.Fprintln(o.Stderr, "warning  budgets.memory is not checked: only a device that answers over the control API tells what memory is in use")
	case s.Memory.Used > most:
		over = append(over, fmt.Sprintf("%.1f MiB of %.1f MiB of memory are in use, the budget is %.1f MiB (budgets.memory in target.yaml)",
			mebi(s.Memory.Used), mebi(s.Memory.Total), mebi(most)))
	}
	if len(over) == 0 {
		return nil
	}
	s.OverBudget = over
	return fault.New(fault.Budget, "running %s: %s", o.Target, strings.Join(over, "; "))
}

func mebi(bytes int64) float64 { return float64(bytes) / float64(targets.MiB) }

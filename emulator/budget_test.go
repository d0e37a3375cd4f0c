package emulator

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestMemoryOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Memory{
		`{"total": 1000, "available": 400}`: {1000, 600}, `{"total": 10, "available": 40}`: {10, 0},
	} {
		if got, err := memoryOf([]byte(text)); err != nil || *got != want {
			t.Errorf("%s is %v: %v", text, got, err)
		}
	}
	for _, bad := range []string{``, `[]`, `"x"`, `{}`, `{"total": "much"}`, `{"total": 0, "available": 0}`} {
		if _, err := memoryOf([]byte(bad)); fault.Of(err) != fault.Unreachable {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestBudgetsOfABoot(t *testing.T) {
	t.Parallel()
	most := Budgets{BootTime: 10 * time.Second, Memory: 100 << 20}
	for name, c := range map[string]struct {
		Budgets
		Summary
		want []string // in the error, nothing for none
	}{
		"none":    {Budgets{}, Summary{BootSeconds: 1000}, nil},
		"within":  {most, Summary{BootSeconds: 9.9, Memory: &Memory{200 << 20, 100 << 20}}, nil},
		"slow":    {most, Summary{BootSeconds: 10.1, Accelerator: "kvm", Memory: &Memory{200 << 20, 1}}, []string{"10.1 s by kvm", "budgets.boot_time"}},
		"both":    {most, Summary{BootSeconds: 99, Memory: &Memory{200 << 20, 101 << 20}}, []string{"99.0 s", "101.0 MiB of 200.0 MiB", "budgets.memory"}},
		"unknown": {most, Summary{BootSeconds: 1}, nil},
	} {
		var out bytes.Buffer
		o := Options{Target: "x", Budgets: c.Budgets, Stderr: &out}
		err := o.check(&c.Summary)
		if (err != nil) != (c.want != nil) || err != nil && fault.Of(err) != fault.Budget {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %v", name, want, err)
			}
		}
		if (err == nil) != (len(c.Summary.OverBudget) == 0) {
			t.Errorf("%s: the summary has %v", name, c.Summary.OverBudget)
		}
		if told := strings.Contains(out.String(), "is not checked"); told != (name == "unknown") {
			t.Errorf("%s: that it is not checked is told: %v", name, told)
		}
	}
}

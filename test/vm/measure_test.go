package vm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUsage(t *testing.T) {
	var u Usage
	if err := u.addProcesses("P 1 init 2048 10 20\n\nP 77 pantavisor 1024 5 5"); err != nil {
		t.Fatal(err)
	}
	want := Usage{PSS: 3072, Processes: []string{"init/1", "pantavisor/77"}, RuntimeCPU: 0.4}
	if d := cmp.Diff(want, u); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "P 1 init 2048 10", "P 1 init x 10 20"} {
		if err := new(Usage).addProcesses(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if s, err := busySeconds("cpu  100 0 50 9999 0 25 25 0 0 0"); err != nil || s != 2 {
		t.Errorf("%v %v", s, err)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu a b c d e f g", "intr 1 2 3 4 5 6 7"} {
		if _, err := busySeconds(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

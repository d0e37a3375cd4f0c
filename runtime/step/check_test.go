package step

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/verified"
)

// BenchmarkCheck checks a revision of 1 GB in 200 objects, as the start of a device does: for
// the first time, when nothing has changed, and when marks on the medium do not count.
func BenchmarkCheck(b *testing.B) {
	const count, size = 200, 5_000_000
	dir, err := os.MkdirTemp("/dev/shm", "check")
	if err != nil {
		b.Skipf("no directory in memory: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	store, err := objects.Create(filepath.Join(dir, "objects"))
	if err != nil {
		b.Fatal(err)
	}
	st := state.New(state.Spec)
	for i := range count {
		sum, err := store.Put(b.Context(), strings.NewReader(strings.Repeat(fmt.Sprintf("%10d", i), size/10)), "")
		if err == nil {
			err = st.SetObject(fmt.Sprintf("app/%d", i), sum)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	f := &Files{Dir: filepath.Join(dir, "trail"), State: st, Store: store, Hash: true, Verified: new(verified.Marks)}
	check := func() {
		if err := f.Check(b.Context(), func(string) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
	forget := func() {
		sums, err := store.List()
		for _, sum := range sums {
			_ = unix.Removexattr(filepath.Join(store.Dir(), sum), "trusted.pv.verified")
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		before func()
	}{
		{"first", func() { forget(); f.Verified = new(verified.Marks) }},
		{"again", func() { f.Verified = new(verified.Marks) }},
		{"strict", func() { f.Verified = &verified.Marks{Strict: true} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			check() // what an earlier start has done
			var spent float64
			for b.Loop() {
				c.before()
				began := cpuTime(b)
				check()
				spent += cpuTime(b) - began
			}
			b.ReportMetric(spent/float64(b.N), "cpu-s/GB")
		})
	}
}

// cpuTime returns the processor time of this process in seconds.
func cpuTime(tb testing.TB) float64 {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

package container

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// TestCostOfOneMore: a container that runs has no process of the runtime's beside
// it, and takes next to nothing in the runtime itself.
func TestCostOfOneMore(t *testing.T) {
	b := newBench(t)
	start := func(name string) {
		p := b.start(name, "lxc.init.cmd = /sbin/init wait", "lxc.rootfs.path = overlayfs:"+b.dir+"/root:"+b.dir+"/vol-"+name+"/upper")
		firstLine(t, p)
		pids, err := os.ReadFile(filepath.Join(b.l.Tree.dir, "lxc", name, "cgroup.procs"))
		if got := strings.TrimSpace(string(pids)); err != nil || got != itoa(p.PID) {
			t.Errorf("processes of container %s: %q, %v; want its init %d alone", name, got, err, p.PID)
		}
	}
	start("first")
	before := pss(t)
	const n = 20
	for i := range n {
		start(fmt.Sprintf("more%d", i))
	}
	if each := (pss(t) - before) / n; each > 100 {
		t.Errorf("each further container takes %d KB of the runtime", each)
	} else {
		t.Logf("each further container takes %d KB", each)
	}
}

// pss is this process's proportional share of memory in KB.
func pss(t *testing.T) (kb int) {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if _, err := fmt.Sscanf(string(line), "Pss: %d kB", &kb); err == nil {
			return kb
		}
	}
	t.Fatalf("no Pss in\n%s", text)
	return 0
}

package container

import (
	"os"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/program"
)

// TestContainerCannotWriteToTheRuntime looks at the first stage's program through
// /proc/PID/exe, as an init that runs it again ("#!/proc/self/exe") shows it inside.
func TestContainerCannotWriteToTheRuntime(t *testing.T) {
	b := newBench(t)
	if !strings.HasPrefix(program.Path(), "/proc/"+itoa(os.Getpid())) {
		t.Skip("the kernel is older than Linux 5.12")
	}
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("the hook of this test is a shell script")
	}
	log := b.listen()
	hook := b.file("etc/hook", "#!/bin/sh\nchmod 755 /proc/$LXC_PID/exe 2>&1 && echo changed\nexit 0\n", 0o755)
	<-b.start("one", "lxc.hook.start-host = "+hook, "lxc.init.cmd = /sbin/init exit 0").Done()
	if !log.has("Read-only file system") || log.has("changed") {
		t.Errorf("the program of the first stage can be changed: %q", log.lines)
	}
}

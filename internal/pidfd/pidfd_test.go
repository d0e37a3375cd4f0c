package pidfd

import (
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEnded asks about a process while signals interrupt the asking thread, and again when the
// process is gone.
func TestEnded(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go interrupt(unix.Getpid(), unix.Gettid(), stop, stopped)
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		if Ended(fd) {
			t.Error("a process that runs is taken for one that has ended")
			break
		}
	}
	close(stop)
	<-stopped
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !Ended(fd) {
		t.Error("a process that has ended is taken for one that runs")
	}
}

// interrupt sends a thread signals until stop.
func interrupt(pid, thread int, stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	for {
		select {
		case <-stop:
			return
		default:
			_ = unix.Tgkill(pid, thread, unix.SIGURG)
		}
	}
}

package workspace

import (
	"os"
	"os/signal"
	"syscall"
)

// CancelOnTerminate makes the first SIGTERM or SIGHUP (a pipeline that is stopped,
// a terminal that is closed) what an interrupt is: commands are cancelled, clean up
// and end with fault.Cancelled. Later ones are dropped: whoever signals a group of
// processes and its leader does it twice.
func CancelOnTerminate() {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-ends
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
	}()
}

package logs

import (
	"context"
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// ring gives records as /dev/kmsg does: one a read, EPIPE when it overtook the reader.
type ring struct{ records []string }

func (r *ring) Read(p []byte) (int, error) {
	if len(r.records) == 0 {
		return 0, io.EOF
	}
	record := r.records[0]
	r.records = r.records[1:]
	if record == "" {
		return 0, unix.EPIPE
	}
	return copy(p, record), nil
}

func TestKernelMessages(t *testing.T) {
	s, dir := start(t, Options{})
	err := s.readKernel(&ring{[]string{
		"6,1,5140900,-;first\n SUBSYSTEM=pci\n", "", "3,9,61000000,-;after a gap\n", "damaged", "6,x,y,-;damaged\n",
	}})
	if !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	s.Flush()
	want := "[    5.140900] first\n[   61.000000] after a gap\n"
	if got := read(t, dir, "0/pantavisor/dmesg"); got != want {
		t.Errorf("dmesg holds %q, want %q", got, want)
	}
}

// TestKernelIsNotCapturedOntoItself wants no capture where standard output may be the
// kernel's own log.
func TestKernelIsNotCapturedOntoItself(t *testing.T) {
	for _, o := range []Output{Stdout, StdoutContainers, StdoutPantavisor, StdoutDirect} {
		s, _ := start(t, Options{Outputs: o | FileTree})
		// It would last as long as the context, which does not end.
		if err := s.CaptureKernel(context.Background()); err != nil {
			t.Errorf("%s: %v", o, err)
		}
	}
}

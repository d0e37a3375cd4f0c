package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelSource is the source name of the kernel's messages.
const kernelSource = "dmesg"

// CaptureKernel logs the kernel's messages until ctx ends, including earlier ones. With
// an output on standard output it does nothing: in embedded mode that is the kernel's
// own log, so that each message would be logged again.
func (s *Server) CaptureKernel(ctx context.Context) error {
	s.mu.Lock()
	outputs := s.o.Outputs
	s.mu.Unlock()
	if outputs&(Stdout|StdoutContainers|StdoutPantavisor|StdoutDirect) != 0 {
		return nil
	}
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("capturing the kernel's messages: %w", err)
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	if err := s.readKernel(f); ctx.Err() == nil {
		return fmt.Errorf("capturing the kernel's messages: %w", err)
	}
	return nil
}

// readKernel reads messages from /dev/kmsg, which returns one at a time.
func (s *Server) readKernel(f io.Reader) error {
	buf := make([]byte, 16<<10) // more than the longest record, PRINTK_MESSAGE_MAX
	for {
		n, err := f.Read(buf)
		switch {
		case errors.Is(err, unix.EPIPE):
			continue // the kernel has overwritten unread messages; go on with the oldest
		case err != nil:
			return err
		}
		if level, text, ok := parseKernel(string(buf[:n])); ok {
			s.put(Runtime, kernelSource, level, fromStream, []byte(text+"\n"))
		}
	}
}

// parseKernel reads "6,339,5140900,-;text\n KEY=value\n" (kernel documentation:
// ABI, dev-kmsg). It puts the time before the text, as dmesg does.
func parseKernel(record string) (level Level, text string, ok bool) {
	head, body, ok := strings.Cut(record, ";")
	fields := strings.Split(head, ",")
	if !ok || len(fields) < 3 {
		return Info, "", false
	}
	pri, err1 := strconv.ParseUint(fields[0], 10, 32)
	micros, err2 := strconv.ParseUint(fields[2], 10, 64)
	if err1 != nil || err2 != nil {
		return Info, "", false
	}
	text, _, _ = strings.Cut(body, "\n")
	return severities[pri&7], fmt.Sprintf("[%5d.%06d] %s", micros/1e6, micros%1e6, text), true
}

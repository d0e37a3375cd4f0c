package installer

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/flash"
)

const gib = 1 << 30

var (
	stick = flash.Disk{Name: "sda", Path: "/dev/sda", Size: 8 * gib, Uses: []string{"mounted on /medium"}}
	usb   = flash.Disk{Name: "sdb", Path: "/dev/sdb", Model: "Back\x1b[2Jup", Size: 80 * gib}
	tiny  = flash.Disk{Name: "mmcblk0", Path: "/dev/mmcblk0", Size: gib, Permanent: true}
	inner = flash.Disk{Name: "nvme0n1", Path: "/dev/nvme0n1", Model: "Fast", Size: 40 * gib, Permanent: true}
	other = flash.Disk{Name: "vda", Path: "/dev/vda", Size: 40 * gib, Permanent: true}
)

// console is a terminal with one user.
type console struct {
	mu   sync.Mutex
	text strings.Builder
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// install runs a session in which a user types and time passes as an event list says: '.' is
// a second, anything else a key. It returns what was written and how the session ended.
func install(t *testing.T, s *session, events string) (written []string, how end, text *console) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	keys, seconds := make(chan byte), make(chan time.Time)
	text = &console{}
	s.screen, s.keys, s.second, s.image, s.size = &screen{}, keys, seconds, "/medium/x64-uefi.img.xz", 4*gib
	s.screen.add(text)
	if s.install == nil {
		s.install = func(_ context.Context, d flash.Disk, progress func(flash.Phase, int64, int64)) error {
			progress(flash.Writing, 50, 100)
			written = append(written, d.Name)
			return nil
		}
	}
	go func() {
		for _, e := range []byte(events) {
			if e == '.' {
				select {
				case seconds <- time.Time{}:
				case <-ctx.Done():
				}
				continue
			}
			select {
			case keys <- e:
			case <-ctx.Done():
			}
		}
	}()
	how, err := s.run(ctx)
	s.screen.finish(time.Minute)
	if err != nil {
		t.Fatalf("%v; the console has:\n%s", err, text)
	}
	return written, how, text
}

func disks(list ...flash.Disk) func() ([]flash.Disk, error) {
	return func() ([]flash.Disk, error) { return list, nil }
}

func TestSessions(t *testing.T) {
	t.Parallel()
	all := disks(tiny, inner, stick, usb, other)
	for name, c := range map[string]struct {
		session session
		events  string
		written string
		how     end
	}{
		"count-down":            {session{disks: all, wait: 2}, "..\r", "nvme0n1", restart},
		"no count-down":         {session{disks: all}, "\r", "nvme0n1", restart},
		"chosen":                {session{disks: all, wait: 9}, "2\r5\ryes\r\r", "vda", restart},
		"key in the count-down": {session{disks: all, wait: 9}, "..2\r4\rYES\r\r", "sdb", restart},
		"automatic after a key": {session{disks: all, wait: 9}, "x\r1\r\r", "nvme0n1", restart},
		"corrected":             {session{disks: all, wait: 9}, "x\b2\r45\x7f\ryes\r\r", "sdb", restart},
		"not confirmed":         {session{disks: all, wait: 9}, "2\r5\ry\r" + "3\r", "", powerOff},
		"no such disk":          {session{disks: all, wait: 9}, "2\r6\r" + "3\r", "", powerOff},
		"the medium":            {session{disks: all, wait: 9}, "2\r3\r" + "3\r", "", powerOff},
		"too small":             {session{disks: all, wait: 9}, "2\r1\r" + "3\r", "", powerOff},
		"back":                  {session{disks: all, wait: 9}, "2\r\r" + "3\r", "", powerOff},
		"silent":                {session{disks: all, wait: 9, silent: true}, "", "nvme0n1", powerOff},
		"nothing permanent":     {session{disks: disks(stick, usb, tiny), wait: 1}, "...." + "3\r", "", powerOff},
	} {
		written, how, text := install(t, &c.session, c.events)
		if got := strings.Join(written, " "); got != c.written || how != c.how {
			t.Errorf("%s: wrote %q, ended with %d; the console has:\n%s", name, got, how, text)
		}
		if strings.Contains(text.String(), "\x1b") {
			t.Errorf("%s: a disk's name reached the terminal as it is", name)
		}
	}
}

// TestSilentInstallationWaits: the driver of the disk may be slow.
func TestSilentInstallationWaits(t *testing.T) {
	t.Parallel()
	asked := 0
	s := &session{silent: true, disks: func() ([]flash.Disk, error) {
		asked++
		if asked < 3 {
			return []flash.Disk{stick}, nil
		}
		return []flash.Disk{inner, stick}, nil
	}}
	if written, how, text := install(t, s, ".."); len(written) != 1 || how != powerOff {
		t.Errorf("wrote %v, ended with %d; the console has:\n%s", written, how, text)
	}
}

func TestFailedInstallationIsRepeated(t *testing.T) {
	t.Parallel()
	tries := 0
	s := &session{silent: true, disks: disks(inner)}
	s.install = func(context.Context, flash.Disk, func(flash.Phase, int64, int64)) error {
		tries++
		if tries == 1 {
			return errors.New("input/output error")
		}
		return nil
	}
	_, how, text := install(t, s, "\r")
	if tries != 2 || how != powerOff || !strings.Contains(text.String(), "failed: input/output error") {
		t.Errorf("%d tries, ended with %d; the console has:\n%s", tries, how, text)
	}
}

// TestDeadConsoleHoldsUpNothing: what one console does not take, the others get.
func TestDeadConsoleHoldsUpNothing(t *testing.T) {
	t.Parallel()
	s := &screen{}
	r, w := io.Pipe() // nobody reads
	defer r.Close()
	defer w.Close()
	s.add(w)
	for range 3 * backlog {
		s.print("x")
	}
}

func TestTheOneImageIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := onlyImage(dir); err == nil {
		t.Error("found one in an empty directory")
	}
	put("a.img.xz")
	put("a.img.bmap")
	if got, err := onlyImage(dir); err != nil || filepath.Base(got) != "a.img.xz" {
		t.Errorf("%s: %v", got, err)
	}
	put("b.img")
	if _, err := onlyImage(dir); err == nil || !strings.Contains(err.Error(), "2 images") {
		t.Errorf("%v", err)
	}
}

package watchdog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The table of the package comment, by mode: starting, running, rebooting, powering off.
func TestModes(t *testing.T) {
	want := map[Mode][4]bool{
		Disabled: {false, false, false, false},
		Shutdown: {false, false, true, false},
		Startup:  {true, false, true, false},
		Always:   {true, true, true, true},
		"typo":   {false, false, false, false},
	}
	for mode, fed := range want {
		var got [4]bool
		for s := Starting; s <= PoweringOff; s++ {
			got[s] = mode.Fed(s)
		}
		if diff := cmp.Diff(fed, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", mode, diff)
		}
	}
}

// device is a pipe with a name: what is written to it can be read.
func device(t *testing.T) (path string, r *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "watchdog")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return path, r
}

func next(t *testing.T, r io.Reader) byte {
	t.Helper()
	b := make([]byte, 1)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

func TestStartupFeedsAndLetsGo(t *testing.T) {
	path, r := device(t)
	k := New(path, Startup, time.Second)
	if err := k.Enter(Starting); err != nil {
		t.Fatal(err)
	}
	for range 2 { // at once, and again after a third of the timeout
		if b := next(t, r); b != 0 {
			t.Fatalf("fed %q", b)
		}
	}
	if err := k.Enter(Running); err != nil {
		t.Fatal(err)
	}
	for b := next(t, r); b != 'V'; b = next(t, r) {
		if b != 0 {
			t.Fatalf("read %q before the magic character", b)
		}
	}
	if err := k.Enter(Rebooting); err != nil {
		t.Fatal(err)
	}
	if b := next(t, r); b != 0 {
		t.Errorf("fed %q while rebooting", b)
	}
	if err := k.Enter(PoweringOff); err != nil {
		t.Error(err)
	}
}

func TestDisabledOpensNothing(t *testing.T) {
	k := New(filepath.Join(t.TempDir(), "none"), Disabled, time.Second)
	for s := Starting; s <= PoweringOff; s++ {
		if err := k.Enter(s); err != nil {
			t.Error(err)
		}
	}
}

func TestMissingDevice(t *testing.T) {
	k := New(filepath.Join(t.TempDir(), "none"), Always, time.Second)
	if err := k.Enter(Starting); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that it is missing", err)
	}
	if err := k.Enter(Running); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want another try", err)
	}
}

func TestTimeoutIsAtLeastASecond(t *testing.T) {
	if k := New("", Always, 0); k.timeout != time.Second {
		t.Error(fmt.Sprint(k.timeout))
	}
}

// TestFedDuringLongWork checks every stage of every mode: hashing on all processors,
// collections of garbage and blocking system calls do not keep the watchdog from its feed.
func TestFedDuringLongWork(t *testing.T) {
	for _, mode := range []Mode{Shutdown, Startup, Always} {
		for s := Starting; s <= PoweringOff; s++ {
			if !mode.Fed(s) {
				continue
			}
			t.Run(fmt.Sprint(mode, " ", s), func(t *testing.T) {
				path, r := device(t)
				defer work(t)()
				k := New(path, mode, time.Second)
				if err := k.Enter(s); err != nil {
					t.Fatal(err)
				}
				if err := r.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				for range 3 { // at once, and after each third of the timeout
					if b := next(t, r); b != 0 {
						t.Fatalf("fed %q", b)
					}
				}
				if err := k.end(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// work keeps all processors busy until end is called.
func work(t *testing.T) (end func()) {
	t.Helper()
	var over atomic.Bool
	var wg sync.WaitGroup
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_CREATE|os.O_RDWR|os.O_SYNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<20)
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !over.Load() {
				sha256.Sum256(data)
			}
		})
	}
	wg.Go(func() {
		for !over.Load() {
			runtime.GC()
			_, _ = file.WriteAt(data, 0)
		}
	})
	return func() {
		over.Store(true)
		wg.Wait()
		_ = file.Close()
	}
}

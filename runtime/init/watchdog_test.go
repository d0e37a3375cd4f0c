package init

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/watchdog"
)

// fedIn says in which stages each mode feeds: before the revision runs, while it runs, and
// from the word of a reboot on.
var fedIn = map[watchdog.Mode][3]bool{
	watchdog.Disabled: {false, false, false}, watchdog.Shutdown: {false, false, true},
	watchdog.Startup: {true, false, true}, watchdog.Always: {true, true, true},
}

// TestWatchdogIsFedDuringLongWork runs an engine that keeps all processors busy, in each
// mode: process 1 feeds in the stages in which it should.
func TestWatchdogIsFedDuringLongWork(t *testing.T) {
	for mode := range fedIn {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			inside(t, "watchdog", "PV_TEST_MODE="+string(mode))
		})
	}
}

// words end the stages: each is the name of a file that makes the engine say it.
var words = []string{handoff.Ready, handoff.Rebooting, theEnd}

// theEnd is not said: the engine ends.
const theEnd = "end"

// sceneWatchdog goes with an engine through the stages of a boot. The watchdog is a pipe.
func sceneWatchdog() error {
	dir, mode := os.Getenv("PV_TEST_DIR"), watchdog.Mode(os.Getenv("PV_TEST_MODE"))
	path := filepath.Join(dir, "watchdog")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	hw, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		return err
	}
	m := startScene()
	m.storage, m.watchdog = dir, watchdog.New(path, mode, time.Second)
	m.stage(watchdog.Starting)
	end := make(chan outcome, 1)
	go func() { end <- m.supervise(context.Background()) }()
	for i, word := range words {
		if err := fed(hw, fedIn[mode][i]); err != nil {
			return fmt.Errorf("until the word %s: %w", word, err)
		}
		if err := os.WriteFile(filepath.Join(dir, word), nil, 0o600); err != nil {
			return err
		}
		if err := awaitFile(filepath.Join(dir, word+" heard")); err != nil {
			return err
		}
	}
	if o := <-end; o.action != reboot || o.failed {
		return fmt.Errorf("the end is %+v", o)
	}
	return nil
}

// feedTime is more than the time between two feeds.
const feedTime = 600 * time.Millisecond

// fed checks that the watchdog is fed for more than a second, or that it is left alone.
func fed(hw *os.File, wanted bool) error {
	patience, most := feedTime, 20
	if wanted {
		patience, most = time.Minute, 4
	}
	for n, b := 0, []byte{0}; n < most; n++ {
		err := hw.SetReadDeadline(time.Now().Add(patience))
		if err == nil {
			_, err = hw.Read(b)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !wanted:
			return nil
		case err != nil:
			return fmt.Errorf("the feed number %d: %w", n, err)
		case b[0] == 'V': // the end of the stage before
			n = 0
		}
	}
	if !wanted {
		return errors.New("it is fed")
	}
	return nil
}

func awaitFile(path string) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%s does not come", path)
}

// busyEngine is the engine of the scene: it hashes on all processors and says a word when
// the file of that name is there.
func busyEngine() int {
	dir := os.Getenv("PV_TEST_DIR")
	for range 2 * runtime.NumCPU() {
		go func() {
			for data := make([]byte, 1<<20); ; {
				sha256.Sum256(data)
			}
		}()
	}
	for _, word := range words {
		err := awaitFile(filepath.Join(dir, word))
		if err == nil && word != theEnd {
			err = handoff.Notify(word)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, word+" heard"), nil, 0o600)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return handoff.ExitReboot
}

package filelock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("FILELOCK_TEST_HOLD"); path != "" {
		hold(path)
	}
	os.Exit(m.Run())
}

// hold locks a file as another process and keeps it until standard input ends.
func hold(path string) {
	if _, err := Acquire(context.Background(), path, Options{Create: 0o600}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// holdElsewhere starts a process that holds the lock until it is killed.
func holdElsewhere(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FILELOCK_TEST_HOLD="+path)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return cmd
}

// kinds are the two forms of a lock under one signature.
var kinds = map[string]struct {
	acquire func(ctx context.Context, path string, opt Options) (*Lock, error)
	try     func(path string, opt Options) (*Lock, error)
}{
	"file": {Acquire, Try},
	"byte": {
		func(ctx context.Context, path string, opt Options) (*Lock, error) {
			return AcquireByte(ctx, path, 1<<40, opt)
		},
		func(path string, opt Options) (*Lock, error) { return TryByte(path, 1<<40, opt) },
	},
}

func TestExcludes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first, second bool // shared
		want          error
	}{
		{false, false, ErrHeld},
		{false, true, ErrHeld},
		{true, false, ErrHeld},
		{true, true, nil},
	} {
		for name, k := range kinds {
			path := filepath.Join(t.TempDir(), "lock")
			first, err := k.try(path, Options{Shared: c.first, Create: 0o600})
			if err != nil {
				t.Fatal(err)
			}
			second, err := k.try(path, Options{Shared: c.second, Create: 0o600})
			if !errors.Is(err, c.want) {
				t.Errorf("%s: shared %v after shared %v: %v, want %v", name, c.second, c.first, err, c.want)
			}
			if err == nil {
				second.Unlock()
			}
			first.Unlock()
			if l, err := k.try(path, Options{Create: 0o600}); err != nil {
				t.Errorf("%s: after Unlock: %v", name, err)
			} else {
				l.Unlock()
			}
		}
	}
}

func TestBytesAreIndependent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	one, err := TryByte(path, 1, Options{Create: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Unlock()
	two, err := AcquireByte(t.Context(), path, 2, Options{Create: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	two.Unlock()
}

func TestWaitEndsWithContext(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		path := filepath.Join(t.TempDir(), "lock")
		held, err := k.try(path, Options{Create: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		why := errors.New("the user has had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		waits := 0
		l, err := k.acquire(ctx, path, Options{Create: 0o600, Waiting: func() { waits++; cancel(why) }})
		if l != nil || !errors.Is(err, why) || waits != 1 {
			t.Errorf("%s: %v, %v after %d waits, want %v after 1", name, l, err, waits, why)
		}
		held.Unlock()
		// The one who gave up must not keep the lock that it gets now.
		next, err := k.acquire(t.Context(), path, Options{Create: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		next.Unlock()
	}
}

// turns lets several goroutines take the lock often, each for itself.
func turns(t *testing.T, acquire func() (*Lock, error), end func(*Lock)) {
	t.Helper()
	const takers, each = 8, 50
	var wg sync.WaitGroup
	var inside, total atomic.Int32
	for range takers {
		wg.Go(func() {
			for range each {
				l, err := acquire()
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				total.Add(1)
				runtime.Gosched()
				inside.Add(-1)
				end(l)
			}
		})
	}
	if wg.Wait(); total.Load() != takers*each {
		t.Errorf("%d turns, want %d", total.Load(), takers*each)
	}
}

func TestWaitsForUnlock(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock")
			turns(t, func() (*Lock, error) { return k.acquire(t.Context(), path, Options{Create: 0o600}) }, (*Lock).Unlock)
		})
	}
}

// Every holder removes the file, while others wait for it.
func TestRemovedUnderTheWaiter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	turns(t, func() (*Lock, error) { return Acquire(t.Context(), path, Options{Create: 0o600}) }, func(l *Lock) {
		if err := l.Remove(); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock file: %v, want it removed", err)
	}
}

func TestReplacedUnderTheWaiter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "repository")
	mkdir(t, path)
	old, err := Try(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(t.Context(), path, Options{Waiting: func() {
		if err := os.Rename(path, filepath.Join(dir, "old")); err != nil {
			t.Error(err)
		}
		mkdir(t, path)
		old.Unlock()
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	if _, err := Try(path, Options{}); !errors.Is(err, ErrHeld) {
		t.Errorf("the directory of the name: %v, want %v", err, ErrHeld)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Error(err)
	}
}

func TestOtherProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	other := holdElsewhere(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := Acquire(ctx, path, Options{Create: 0o600})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Acquire: %v, want %v", err, context.DeadlineExceeded)
	}
	if want := fmt.Sprintf(", which process %d holds", other.Process.Pid); !strings.Contains(err.Error(), want) && listed(t, path) {
		t.Errorf("Acquire: %v, want %q in it", err, want)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(t.Context(), path, Options{Create: 0o600})
	if err != nil {
		t.Fatalf("after its process was killed: %v", err)
	}
	l.Unlock()
}

// listed reports whether /proc/locks names the files of this file system by the device
// that stat reports.
func listed(t *testing.T, path string) bool {
	t.Helper()
	l, err := Try(path+".probe", Options{Create: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	return holder(l.file) == os.Getpid()
}

// A program that was started while the lock was held must not keep it.
func TestNotInherited(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Try(path, Options{Create: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(l.File().Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v, want FD_CLOEXEC", flags, err)
	}
	l.Unlock()
}

// Between fork and exec a child has a copy of every open file.
func TestUnlockDropsCopies(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		path := filepath.Join(t.TempDir(), "lock")
		l, err := k.try(path, Options{Create: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		child, err := unix.FcntlInt(l.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.Unlock()
		if l, err = k.try(path, Options{Create: 0o600}); err != nil {
			t.Errorf("%s: after Unlock, with a copy of the file open: %v", name, err)
		} else {
			l.Unlock()
		}
		_ = unix.Close(child)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Try(link, Options{Create: 0o600}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a symbolic link: %v, want %v", err, unix.ELOOP)
	}
	if _, err := Try(filepath.Join(dir, "none"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v, want %v", err, fs.ErrNotExist)
	}
	l, err := Try(filepath.Join(dir, "lock"), Options{Create: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
	l.Unlock()
	if err := l.Remove(); err != nil { // twice is not a mistake
		t.Error(err)
	}
}

func TestHolderLine(t *testing.T) {
	t.Parallel()
	const locks = "1: POSIX  ADVISORY  READ  7 fd:01:9 128 128\n" +
		"2: -> FLOCK  ADVISORY  WRITE 8 fd:01:9 0 EOF\n" +
		"3: FLOCK  ADVISORY  WRITE -1 fd:01:8 0 EOF\n" +
		"short\n" +
		"4: FLOCK  ADVISORY  WRITE 4711 fd:01:9 0 EOF\n"
	for file, want := range map[string]int{"fd:01:9": 4711, "fd:01:8": 0, "fd:01:7": 0} {
		if got := find(locks, file); got != want {
			t.Errorf("%s: process %d, want %d", file, got, want)
		}
	}
}

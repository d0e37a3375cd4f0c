// Package filelock locks files and directories against other processes.
//
// A lock belongs to an open file of this process. Two locks of one process exclude each
// other as those of two processes do. The kernel releases a lock when its process ends,
// however it ends, so there are no stale locks; a killed process leaves at most an
// unlocked file. Programs that the process starts do not inherit it.
//
// Replacing or removing a locked file, see [Lock.Remove], makes its lock useless: a
// process that waited for the old file would then share the lock with one that came
// later. A lock is therefore returned only if its file still has its name; otherwise the
// file that has the name now is locked.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// ErrHeld is returned by [Try] and [TryByte] when the lock is held by another process.
var ErrHeld = errors.New("locked by another process")

// Options control the locking.
type Options struct {
	// Shared locks together with others that lock shared. Otherwise the lock is
	// exclusive.
	Shared bool
	// Create is the mode of a file that is made when there is none; the file is
	// opened for reading and writing then, and must not be a symbolic link. When it
	// is 0, the file or directory has to exist and is opened for reading.
	Create fs.FileMode
	// Waiting is called once before waiting for another process. It may be nil.
	Waiting func()
}

// Lock is a lock that this process holds until [Lock.Unlock].
type Lock struct {
	file *os.File
	lock lockFunc
}

// lockFunc changes the lock of an open file and returns ErrHeld when another process
// has it. With wait it returns when it has the lock.
type lockFunc func(fd uintptr, m mode, wait bool) error

type mode int

const (
	unlocked mode = iota
	shared
	exclusive
)

// Acquire locks the file or directory at path and waits as long as another process
// holds it and ctx lasts.
func Acquire(ctx context.Context, path string, opt Options) (*Lock, error) {
	return acquire(ctx, path, opt, lockFile)
}

// Try locks the file or directory at path, or returns [ErrHeld] at once.
func Try(path string, opt Options) (*Lock, error) {
	return try(path, opt, lockFile)
}

func acquire(ctx context.Context, path string, opt Options, lock lockFunc) (*Lock, error) {
	for {
		l, err := open(path, opt, lock)
		if err != nil {
			return nil, err
		}
		err = l.set(opt.mode(), false)
		if errors.Is(err, ErrHeld) {
			if opt.Waiting != nil {
				opt.Waiting()
				opt.Waiting = nil
			}
			err = l.wait(ctx, opt.mode())
		}
		if err == nil && l.Named() {
			return l, nil
		}
		_ = l.file.Close()
		if err != nil {
			return nil, err
		}
	}
}

func try(path string, opt Options, lock lockFunc) (*Lock, error) {
	for {
		l, err := open(path, opt, lock)
		if err != nil {
			return nil, err
		}
		if err = l.set(opt.mode(), false); err == nil && l.Named() {
			return l, nil
		}
		_ = l.file.Close()
		if err != nil {
			return nil, err
		}
	}
}

func (o Options) mode() mode {
	if o.Shared {
		return shared
	}
	return exclusive
}

func open(path string, opt Options, lock lockFunc) (*Lock, error) {
	f, err := openFile(path, opt)
	if err != nil {
		return nil, err
	}
	return &Lock{f, lock}, nil
}

// pollEvery is the time between two attempts where waiting would keep the file open.
const pollEvery = 50 * time.Millisecond

// wait waits for the lock. The system call cannot be interrupted: when ctx ends first,
// the goroutine stays until it gets the lock. The caller has closed the file by then, so
// that the lock is released at once.
func (l *Lock) wait(ctx context.Context, m mode) error {
	if !blocking {
		return l.poll(ctx, m)
	}
	if ctx.Done() == nil {
		return l.set(m, true)
	}
	got := make(chan error, 1)
	go func() { got <- l.set(m, true) }()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return l.gaveUp(ctx)
	}
}

// poll is wait for systems on which a file cannot be closed while a call waits for its lock.
func (l *Lock) poll(ctx context.Context, m mode) error {
	for {
		if err := l.set(m, false); !errors.Is(err, ErrHeld) {
			return err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return l.gaveUp(ctx)
		}
	}
}

func (l *Lock) gaveUp(ctx context.Context) error {
	return fmt.Errorf("waiting for the lock of %s%s: %w", l.file.Name(), l.heldBy(), context.Cause(ctx))
}

// set changes the lock. The file's descriptor stays open at least until it returns.
func (l *Lock) set(m mode, wait bool) error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("locking %s: %w", l.file.Name(), err)
	}
	var locked error
	if err := raw.Control(func(fd uintptr) { locked = l.lock(fd, m, wait) }); err != nil {
		return fmt.Errorf("locking %s: %w", l.file.Name(), err)
	}
	if locked != nil {
		return fmt.Errorf("locking %s: %w", l.file.Name(), locked)
	}
	return nil
}

// Named reports whether the locked file still has the name under which it was locked.
func (l *Lock) Named() bool {
	mine, err := l.file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(l.file.Name())
	return err == nil && os.SameFile(mine, now)
}

func (l *Lock) heldBy() string {
	if pid := holder(l.file); pid > 0 {
		return fmt.Sprintf(", which process %d holds", pid)
	}
	return ""
}

// File returns the open file. It must not be closed before Unlock.
func (l *Lock) File() *os.File { return l.file }

// Unlock ends the lock and closes the file, which stays. More calls do nothing. A process that was
// started at this moment has the file open until it runs its program: the lock is
// therefore dropped first.
func (l *Lock) Unlock() {
	l.leave()
	_ = l.set(unlocked, false)
	_ = l.file.Close()
}

// Remove removes the file, which must still have its name, and ends the lock. A process
// that waits for it locks the next file with that name.
func (l *Lock) Remove() error {
	defer l.Unlock()
	return os.Remove(l.file.Name())
}

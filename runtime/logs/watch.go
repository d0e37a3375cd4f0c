package logs

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Events requested from inotify(7).
const (
	watchDir  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	watchFile = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

	noWatch = -1
)

// watches is one inotify instance for all followers: the number of instances per user is
// limited, and containers count as the same user. The zero value is ready.
type watches struct {
	mu    sync.Mutex
	fd    int // of file, which is nil before the first watch
	file  *os.File
	users map[int]map[*Follower]int // by watch: how often each follower uses it
}

// add watches the file of a descriptor and returns the watch's number.
func (w *watches) add(f *Follower, target *os.File, mask uint32) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		if err := w.start(); err != nil {
			return noWatch, err
		}
	}
	wd, err := unix.InotifyAddWatch(w.fd, procPath(target), mask|unix.IN_MASK_ADD)
	if err != nil {
		return noWatch, fmt.Errorf("watching for changes (fs.inotify.max_user_watches may be too low): %w", err)
	}
	if w.users[wd] == nil {
		w.users[wd] = map[*Follower]int{}
	}
	w.users[wd][f]++
	return wd, nil
}

func (w *watches) start() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watching for changes (fs.inotify.max_user_instances may be too low): %w", err)
	}
	w.fd, w.file = fd, os.NewFile(uintptr(fd), "inotify")
	w.users = map[int]map[*Follower]int{}
	go w.read(w.file)
	return nil
}

// drop ends a follower's use of a watch.
func (w *watches) drop(f *Follower, wd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	users := w.users[wd]
	if users == nil {
		return
	}
	if users[f]--; users[f] <= 0 {
		delete(users, f)
	}
	if len(users) == 0 {
		delete(w.users, wd)
		_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
	}
}

// read reads events and wakes the followers that they are for.
func (w *watches) read(file *os.File) {
	buf := make([]byte, 4<<10)
	for {
		n, err := file.Read(buf)
		if err != nil {
			return
		}
		w.deliver(buf[:n])
	}
}

func (w *watches) deliver(events []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int(int32(binary.NativeEndian.Uint32(events)))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		events = events[min(size, len(events)):]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			for _, users := range w.users {
				wake(users, true)
			}
		case mask&unix.IN_IGNORED != 0:
			wake(w.users[wd], true)
			delete(w.users, wd)
		default:
			wake(w.users[wd], mask != unix.IN_MODIFY)
		}
	}
}

func wake(users map[*Follower]int, renew bool) {
	for f := range users {
		f.look(renew)
	}
}

func (w *watches) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		_ = w.file.Close()
		w.file, w.users = nil, nil
	}
}

// followers are the followers of a server. The zero value is ready.
type followers struct {
	mu     sync.Mutex
	all    map[*Follower]bool
	closed bool
	watch  watches
}

func (m *followers) add(f *Follower) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return os.ErrClosed
	}
	if m.all == nil {
		m.all = map[*Follower]bool{}
	}
	m.all[f] = true
	return nil
}

func (m *followers) remove(f *Follower) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, f)
}

func (m *followers) closeAll() {
	m.mu.Lock()
	m.closed = true
	list := make([]*Follower, 0, len(m.all))
	for f := range m.all {
		list = append(list, f)
	}
	m.mu.Unlock()
	for _, f := range list {
		f.Close()
	}
	m.watch.close()
}

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of following the files of one container.
const (
	maxFollowed  = 32                    // files
	tailSize     = 64                    // bytes compared to notice that a file was rewritten
	followPiece  = 32 << 10              // bytes read at once, and the longest line that is not split
	followGather = 10 * time.Millisecond // between two passes over growing files
	saveEvery    = time.Second           // between two saves of positions
	followRetry  = 5 * time.Second       // after an error while opening a file
	detachTime   = 5 * time.Second       // for the last pass
)

// File is a log file that a container declares (manual: container logger).
type File struct {
	// Path is the file's path in the container; it cannot lead out of its root.
	Path string
	// MaxSize in bytes, with Truncate: a file of this size is emptied when it has been
	// read, unless its name is a symbolic link or it has other names. 0: never.
	MaxSize  int64
	Truncate bool
}

// DefaultFiles returns the files that are followed in every container (manual: loggers).
func DefaultFiles() []File {
	return []File{{Path: "/var/log/syslog"}, {Path: "/var/log/messages"}}
}

// Files are the files to follow in one container.
type Files struct {
	Platform string // the container's name
	List     []File // of two with the same path, the first counts
	// Open opens a file below /proc/PID of the container's init, "root" or
	// "mountinfo", and fails when that process has ended.
	Open func(name string, flags int) (*os.File, error)
	// Positions is a file for the positions in files on file systems without extended
	// attributes; its directory must exist. Empty: such files are read from the start.
	Positions string
}

// Follower follows the log files of one container. How far each has been read is kept in
// the file's extended attribute trusted.pv.logger.pos, as decimal text, or in
// [Files].Positions, so that nothing is logged twice after a restart.
//
// Inotify reports changes of files and directories, and poll(2) on mountinfo reports
// mounts that hide or show files. Paths are resolved inside the container's root
// (openat2(2), RESOLVE_IN_ROOT), and only plain files of real file systems are read, so
// that links cannot lead outside and the follower never blocks on a FIFO.
type Follower struct {
	s      *Server
	o      Files
	files  []*followed
	side   *positions
	renew  atomic.Bool // names or mounts have changed
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{}
	mounts *os.File
	once   sync.Once
	saved  time.Time
}

// Follow starts following files. [Follower.Close] ends it.
func (s *Server) Follow(o Files) (*Follower, error) {
	f := &Follower{s: s, o: o, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	seen := map[string]bool{}
	for _, file := range o.List {
		file.Path = path.Join("/", file.Path)
		if file.Path == "/" || seen[file.Path] {
			continue
		}
		if len(f.files) == maxFollowed {
			return nil, fmt.Errorf("following the log files of %s: more than %d files", o.Platform, maxFollowed)
		}
		seen[file.Path] = true
		f.files = append(f.files, &followed{File: file, dir: noWatch, self: noWatch})
	}
	f.side = loadPositions(o.Positions)
	if err := s.followers.add(f); err != nil {
		return nil, fmt.Errorf("following the log files of %s: %w", o.Platform, err)
	}
	f.watchMounts()
	f.renew.Store(true)
	go f.run()
	return f, nil
}

// Close logs the rest of the files, saves the positions and releases the container. It
// may be called more than once.
func (f *Follower) Close() {
	f.once.Do(func() {
		if f.mounts != nil {
			_ = f.mounts.Close()
		}
		close(f.stop)
		select {
		case <-f.done:
		case <-time.After(detachTime): // the container's file system does not answer
		}
		f.s.followers.remove(f)
	})
}

// look requests another pass over the files.
func (f *Follower) look(renew bool) {
	if renew {
		f.renew.Store(true)
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// watchMounts requests a pass whenever the container mounts or unmounts something.
func (f *Follower) watchMounts() {
	file, err := f.o.Open("mountinfo", unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return // the container has ended, or mountinfo cannot be polled
	}
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return
	}
	f.mounts = file
	go func() {
		for {
			// The poller reports the descriptor ready at each change: the second call is a change.
			calls := 0
			if raw.Read(func(uintptr) bool { calls++; return calls > 1 }) != nil {
				return
			}
			f.look(true)
		}
	}()
}

func (f *Follower) run() {
	defer close(f.done)
	for {
		wait := f.pass()
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-f.stop:
			f.finish()
			return
		case <-timer:
		case <-f.wake:
			f.rest()
		}
	}
}

// rest waits for more lines, so that each does not cost a pass.
func (f *Follower) rest() {
	select {
	case <-f.stop:
	case <-time.After(followGather):
	}
}

// pass reads all files once and returns after what time to do the next pass unless one
// is requested; 0: never.
func (f *Follower) pass() (again time.Duration) {
	renew := f.renew.Swap(false)
	for _, file := range f.files {
		if renew || file.retry {
			f.locate(file)
		}
		f.drain(file, false)
		switch {
		case file.retry:
			again = sooner(again, followRetry)
		case file.partial:
			again = sooner(again, quietTime)
		case file.moved:
			again = sooner(again, saveEvery)
		}
	}
	if time.Since(f.saved) >= saveEvery {
		f.save()
	}
	return again
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// finish logs the rest of the open files and closes them.
func (f *Follower) finish() {
	for _, file := range f.files {
		f.drain(file, true)
	}
	f.save()
	for _, file := range f.files {
		f.release(file)
		f.s.followers.watch.drop(f, file.dir)
		file.dir = noWatch
	}
}

// followed is one file and how far it has been read.
type followed struct {
	File
	f       *os.File // nil while it does not exist
	id      fileID
	offset  int64
	tail    []byte // content before offset, to notice that the file was rewritten
	moved   bool   // offset is not saved
	partial bool   // read the beginning of a line, but not its end
	since   time.Time
	retry   bool   // open it again after followRetry: there will be no event
	bad     string // last warning about it
	dir     int    // watch of the directory, or of the closest existing one above
	self    int    // watch of the file
}

// drain logs what has been added to a file; with all, including an unfinished line.
func (f *Follower) drain(l *followed, all bool) {
	if l.f == nil {
		return
	}
	piece := pieces.Get().(*[followPiece]byte)
	defer pieces.Put(piece)
	for {
		size, err := sizeOf(l.f)
		if err != nil {
			return
		}
		if size < l.offset || l.rewritten() {
			l.offset, l.moved, l.tail = 0, true, l.tail[:0]
		}
		l.skipHole(size)
		n, err := l.f.ReadAt(piece[:min(followPiece, size-l.offset)], l.offset)
		if n == 0 {
			l.partial = false
			f.empty(l, size)
			return
		}
		cut := l.cut(piece[:n], all)
		if cut == 0 || !f.offer(l, piece[:cut]) {
			return
		}
		l.offset, l.moved = l.offset+int64(cut), true
		l.tail = append(l.tail[:0], piece[max(0, cut-tailSize):cut]...)
		if err != nil {
			return
		}
	}
}

// skipHole moves over a part of a file that has no storage: a container can make a file
// of any size with a hole, which would be read, and logged, as zeros.
func (l *followed) skipHole(size int64) {
	data, err := unix.Seek(int(l.f.Fd()), l.offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // nothing but a hole follows
		data, err = size, nil
	}
	if err == nil && data > l.offset {
		l.offset, l.moved, l.partial, l.tail = data, true, false, l.tail[:0]
	}
}

// rewritten reports whether a file was emptied and has grown to at least the old size.
func (l *followed) rewritten() bool {
	var now [tailSize]byte
	n := len(l.tail)
	_, err := l.f.ReadAt(now[:n], l.offset-int64(n))
	return err == nil && !bytes.Equal(now[:n], l.tail)
}

var pieces = sync.Pool{New: func() any { return new([followPiece]byte) }}

// cut returns how many bytes of text are whole lines. An unfinished line counts as whole
// when it fills the buffer, when its end does not come in time, or with all.
func (l *followed) cut(text []byte, all bool) int {
	if i := bytes.LastIndexByte(text, '\n') + 1; i > 0 {
		l.partial = false
		return i
	}
	switch {
	case all, len(text) == followPiece, l.partial && time.Since(l.since) >= quietTime:
		l.partial = false
		return len(text)
	case !l.partial:
		l.partial, l.since = true, time.Now()
	}
	return 0
}

// offer logs a piece and reports whether it was accepted. A file can wait, so it is read
// as fast as its lines are stored instead of losing them.
func (f *Follower) offer(l *followed, text []byte) bool {
	for !f.s.offer(f.o.Platform, l.Path, Info, fromStream, text) {
		if !f.s.do(func() {}) {
			return false
		}
	}
	if len(text) > followPiece/2 {
		return f.s.do(func() {})
	}
	return true
}

// empty truncates a file that has been read and has reached its maximum size.
func (f *Follower) empty(l *followed, size int64) {
	if !l.Truncate || l.MaxSize <= 0 || size < l.MaxSize {
		return
	}
	if err := f.truncate(l, size); err != nil {
		f.complain(l, fmt.Sprintf("emptying the file: %v", err))
		return
	}
	l.offset, l.moved, l.tail = 0, true, l.tail[:0]
}

func (f *Follower) truncate(l *followed, size int64) error {
	root, err := f.o.Open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer root.Close()
	target, err := openIn(root, l.Path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer target.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(target.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || identityOf(int(target.Fd()), &st) != l.id {
		return errors.New("its name is a symbolic link, or it has another name")
	}
	w, err := unix.Open(procPath(target), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(w)
	if now, err := sizeOf(l.f); err != nil || now != size {
		return err // it has grown meanwhile: empty it after the new part has been read
	}
	return unix.Ftruncate(w, 0)
}

// complain logs a warning about a file, once.
func (f *Follower) complain(l *followed, text string) {
	if l.bad != text {
		l.bad = text
		f.s.Log(Runtime, ownSource, Warn, fmt.Sprintf("log file %s of %s: %s", l.Path, f.o.Platform, text))
	}
}

// locate opens the file that now has the path, after reading the previous file of this
// path to its end.
func (f *Follower) locate(l *followed) {
	l.retry = false
	root, err := f.o.Open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return // the container has ended
	}
	defer root.Close()
	for range 4 { // directories may appear meanwhile
		depth, err := f.watchDirectory(root, l)
		if err != nil {
			f.complain(l, err.Error())
			l.retry = true
		}
		target, err := openIn(root, l.Path, unix.O_PATH)
		switch {
		case err == nil:
			f.take(l, target)
			_ = target.Close()
			return
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			f.complain(l, err.Error())
			l.retry = true
			return
		}
		f.leave(l)
		if deepest(root, l.Path) <= depth {
			l.retry = l.retry || isLink(root, l.Path)
			return
		}
	}
	l.retry = true
}

// isLink reports whether a path is a symbolic link. No event reports that the target of
// a link appears in another directory.
func isLink(root *os.File, name string) bool {
	link, err := openIn(root, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err == nil {
		_ = link.Close()
	}
	return err == nil
}

// take starts reading a file, unless it is the same as before.
func (f *Follower) take(l *followed, target *os.File) {
	fd := int(target.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		l.retry = true
		return
	}
	id := identityOf(fd, &st)
	if l.f != nil && id == l.id {
		return
	}
	f.leave(l)
	if err := plain(fd, &st); err != nil {
		f.complain(l, err.Error())
		return
	}
	file, err := os.OpenFile(procPath(target), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		f.complain(l, err.Error())
		l.retry = true
		return
	}
	l.f, l.id, l.bad, l.partial, l.moved, l.tail = file, id, "", false, false, l.tail[:0]
	l.offset = f.position(l)
	if l.self, err = f.s.followers.watch.add(f, target, watchFile); err != nil {
		f.complain(l, err.Error())
		l.retry = true
	}
}

// leave reads the rest of a file that no longer has the path, and closes it.
func (f *Follower) leave(l *followed) {
	f.drain(l, true)
	f.release(l)
}

func (f *Follower) release(l *followed) {
	if l.f == nil {
		return
	}
	if l.moved {
		f.keep(l)
	}
	f.s.followers.watch.drop(f, l.self)
	_ = l.f.Close()
	l.f, l.self, l.partial = nil, noWatch, false
}

// watchDirectory watches the file's directory, or the closest existing one above, and
// returns the depth of that.
func (f *Follower) watchDirectory(root *os.File, l *followed) (depth int, err error) {
	depth = deepest(root, l.Path)
	dir, err := openIn(root, prefix(l.Path, depth), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return depth, err
	}
	defer dir.Close()
	wd, err := f.s.followers.watch.add(f, dir, watchDir)
	if err != nil {
		return depth, err
	}
	f.s.followers.watch.drop(f, l.dir)
	l.dir = wd
	return depth, nil
}

// deepest returns how many of the leading directories of a path exist.
func deepest(root *os.File, name string) int {
	n := strings.Count(name, "/") - 1
	for depth := n; depth > 0; depth-- {
		dir, err := openIn(root, prefix(name, depth), unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			_ = dir.Close()
			return depth
		}
	}
	return 0
}

// prefix returns the first n parts of an absolute path.
func prefix(name string, n int) string {
	parts := strings.Split(name, "/")
	return "/" + path.Join(parts[1:n+1]...)
}

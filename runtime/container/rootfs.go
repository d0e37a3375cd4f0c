package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountRoot mounts the root on the stage directory and opens it.
func (s *stage) mountRoot() error {
	r := s.plan.Root
	var err error
	if len(r.Lowers) > 0 {
		err = mountOverlay(r, s.dir)
	} else {
		err = bindRoot(r, s.dir)
	}
	if err != nil {
		return err
	}
	s.root, err = unix.Open(s.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

func bindRoot(r Root, dir string) error {
	if err := unix.Mount(r.Dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("%s: %w", r.Dir, err)
	}
	for _, o := range strings.Split(r.Options, ",") {
		if o == "ro" {
			return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		}
	}
	return nil
}

// mountOverlay mounts the root's layers. It makes missing writable directories: a new
// volume is empty.
func mountOverlay(r Root, dir string) error {
	for _, l := range r.Lowers {
		if _, err := os.Stat(l); err != nil {
			return fmt.Errorf("the layer %w", err)
		}
	}
	for _, d := range []string{r.Upper, r.Work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("the writable layer: %w", err)
		}
	}
	lowers := make([]string, len(r.Lowers))
	for i, l := range r.Lowers {
		lowers[i] = escapeLayer(l, true)
	}
	data := "lowerdir=" + strings.Join(lowers, ":") + ",upperdir=" + escapeLayer(r.Upper, false) + ",workdir=" + escapeLayer(r.Work, false)
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("the paths of the layers take %d bytes; the limit of mount is less than %d", len(data), os.Getpagesize())
	}
	return unix.Mount("overlay", dir, "overlay", 0, data)
}

// escapeLayer escapes the separators of overlay's option parser.
func escapeLayer(p string, list bool) string {
	p = strings.ReplaceAll(strings.ReplaceAll(p, `\`, `\\`), ",", `\,`)
	if list {
		p = strings.ReplaceAll(p, ":", `\:`)
	}
	return p
}

// inside opens a path of the container. Symbolic links are followed as the container
// would see them, so that an image cannot lead a mount out of its root.
func (s *stage) inside(p string, flags int) (int, error) { return openIn(s.root, p, flags) }

// openIn opens a path with root as the root directory.
func openIn(root int, p string, flags int) (int, error) {
	rel := strings.TrimPrefix(p, "/")
	if rel == "" {
		rel = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o644
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(root, rel, &how)
		// The kernel gives up on ".." when there is a rename or a mount anywhere on the
		// machine at the same time (openat2(2), EAGAIN).
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) || try == insideTries {
			return fd, err
		}
		runtime.Gosched()
	}
}

// insideTries is far more than a busy machine needs; it bounds the time that a hostile
// container can cost.
const insideTries = 1000

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// target opens a mount point, and makes it when create is "dir" or "file". Where a
// symbolic link leads to a name that does not exist, it makes what the link needs.
func (s *stage) target(p, create string) (int, error) {
	fd, err := s.inside(p, unix.O_PATH)
	if !errors.Is(err, unix.ENOENT) || create == "" {
		return fd, err
	}
	if p, err = physical(s.root, p); err != nil {
		return -1, err
	}
	if create == "dir" {
		return makeDirIn(s.root, p)
	}
	parent, err := makeDirIn(s.root, path.Dir(p))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	return s.inside(p, unix.O_CREAT|unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
}

// maxLinks bounds the symbolic links that a path is followed through, as the kernel does.
const maxLinks = 40

// physical returns the path below root that p leads to when its symbolic links are
// followed. Names at its end that do not exist are kept.
func physical(root int, p string) (string, error) {
	done, rest, links := "/", strings.Split(p, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, name)
		to := linkIn(root, next)
		if to == "" {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if path.IsAbs(to) {
			done = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return done, nil
}

// linkIn returns where a symbolic link leads, "" for everything else.
func linkIn(root int, p string) string {
	fd, err := openIn(root, p, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// makeDirIn makes a directory with its parents below root, as [openIn] resolves it, and
// opens it.
func makeDirIn(root int, p string) (int, error) {
	fd, err := openIn(root, p, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) || p == "/" {
		return fd, err
	}
	parent, err := makeDirIn(root, path.Dir(p))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := unix.Mkdirat(parent, path.Base(p), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return openIn(root, p, unix.O_PATH|unix.O_DIRECTORY)
}

// mountEntries does the mounts of the configuration and of the runtime, in order.
func (s *stage) mountEntries() error {
	for _, m := range s.ordered(s.plan.Mounts) {
		err := s.mountEntry(m)
		if err != nil && !m.Optional {
			return &namedError{"mounting " + m.String(), err}
		}
	}
	return nil
}

// ordered returns the mounts in an order in which none hides another: a mount whose
// target is above that of an earlier one comes before it, for example a tmpfs on /run
// before a file that /etc/resolv.conf leads to. Otherwise the order stays.
func (s *stage) ordered(list []Mount) []Mount {
	at := make([]string, len(list))
	for i, m := range list {
		var err error
		if at[i], err = physical(s.root, m.Target); err != nil {
			at[i] = m.Target
		}
	}
	out, placed := make([]Mount, 0, len(list)), make([]bool, len(list))
	var place func(i int)
	place = func(i int) {
		placed[i] = true
		m := list[i]
		for j := i + 1; j < len(list); j++ {
			if !list[j].hides() || !strings.HasPrefix(at[i], at[j]+"/") {
				continue
			}
			if m.Create = s.kindOf(m); !placed[j] {
				place(j)
			}
		}
		out = append(out, m)
	}
	for i := range list {
		if !placed[i] {
			place(i)
		}
	}
	return out
}

// hides reports whether a mount covers what its target has. A mount of another place of
// the container may depend on the mounts before it.
func (m Mount) hides() bool { return !m.Relative && m.Flags&unix.MS_REMOUNT == 0 }

// kindOf returns how to make the target of a mount that the image has but a mount above
// does not.
func (s *stage) kindOf(m Mount) string {
	var st unix.Stat_t
	fd, err := s.inside(m.Target, unix.O_PATH)
	if m.Create != "" || err != nil {
		return m.Create
	}
	defer unix.Close(fd)
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "dir"
	}
	return "file"
}

func (s *stage) mountEntry(m Mount) error {
	source, done, err := s.source(m)
	if err != nil {
		return err
	}
	defer done()
	fd, err := s.target(m.Target, m.Create)
	if err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	defer unix.Close(fd)
	if m.Flags&unix.MS_BIND == 0 {
		err = mountOn(source, fdPath(fd), m)
	} else if err = s.adopt(m, source, fd); err == nil {
		err = s.bind(unix.AT_FDCWD, source, fd, m.Target, m.Flags)
	}
	if err != nil || m.Spread == 0 {
		return err
	}
	return s.spread(m)
}

// adopt gives a new volume of the container the owner and the mode of the directory in
// the image that it covers, as the tools do that images are made for: a program that does
// not run as root could not write to it.
func (s *stage) adopt(m Mount, source string, target int) error {
	var image, volume unix.Stat_t
	if m.Below == "" || path.Dir(m.Below) != path.Dir(path.Dir(s.plan.Root.Upper)) {
		return nil // it belongs to another container
	}
	if unix.Fstat(target, &image) != nil || unix.Stat(source, &volume) != nil || image.Mode&unix.S_IFMT != unix.S_IFDIR || image.Uid == 0 && image.Gid == 0 {
		return nil
	}
	if volume.Uid != 0 || volume.Gid != 0 || !isEmpty(source) {
		return nil
	}
	if err := unix.Chown(source, int(image.Uid), int(image.Gid)); err != nil {
		return fmt.Errorf("the owner of the volume: %w", err)
	}
	if err := unix.Chmod(source, image.Mode&0o7777); err != nil {
		return fmt.Errorf("the mode of the volume: %w", err)
	}
	return nil
}

// isEmpty reports whether a directory has no entries.
func isEmpty(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

// source returns what to mount. With MakeDir it makes the directory.
func (s *stage) source(m Mount) (string, func(), error) {
	nothing := func() {}
	if m.Type == "overlay" {
		return m.Source, nothing, makeOverlayDirectories(m)
	}
	if m.Flags&unix.MS_BIND == 0 {
		return m.Source, nothing, nil
	}
	if m.Relative || m.Below != "" {
		fd, err := s.sourceInside(m)
		if err != nil {
			return "", nothing, fmt.Errorf("the source: %w", err)
		}
		return fdPath(fd), func() { _ = unix.Close(fd) }, nil
	}
	if m.MakeDir {
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return "", nothing, fmt.Errorf("the source: %w", err)
		}
	}
	if _, err := os.Stat(m.Source); err != nil {
		return "", nothing, fmt.Errorf("the source: %w", err)
	}
	return m.Source, nothing, nil
}

// sourceInside opens a source in the container's root, or in the volume that it must
// not leave.
func (s *stage) sourceInside(m Mount) (int, error) {
	root, p := s.root, m.Source
	if !m.Relative {
		var err error
		if root, err = unix.Open(m.Below, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return -1, fmt.Errorf("%s: %w", m.Below, err)
		}
		if p = strings.TrimPrefix(path.Clean(p), m.Below); p == "" {
			return root, nil // it may be a file
		}
		defer unix.Close(root)
	}
	if m.MakeDir {
		return makeDirIn(root, path.Clean("/"+p))
	}
	return openIn(root, p, unix.O_PATH)
}

// makeOverlayDirectories makes the writable directories of an overlay entry.
func makeOverlayDirectories(m Mount) error {
	for _, name := range []string{"upperdir", "workdir"} {
		if d := m.option(name); d != "" {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return fmt.Errorf("the writable layer: %w", err)
			}
		}
	}
	return nil
}

func mountOn(source, target string, m Mount) error {
	fstype := m.Type
	if fstype == "none" {
		fstype = ""
	}
	return unix.Mount(source, target, fstype, m.Flags, m.Data)
}

// spread sets the propagation of a mount. It opens the target again, which now leads to
// the new mount.
func (s *stage) spread(m Mount) error {
	fd, err := s.inside(m.Target, unix.O_PATH)
	if err != nil {
		return fmt.Errorf("the mount: %w", err)
	}
	defer unix.Close(fd)
	return unix.Mount("", fdPath(fd), "", m.Spread, "")
}

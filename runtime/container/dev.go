package container

import (
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// node is a character device that every container has.
type node struct {
	name         string
	major, minor uint32
}

var nodes = []node{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// devLinks are symbolic links in /dev.
var devLinks = [][2]string{
	{"/proc/self/fd", "fd"}, {"fd/0", "stdin"}, {"fd/1", "stdout"}, {"fd/2", "stderr"},
}

// makeDev mounts an empty /dev. It comes before the configuration's mounts, which may
// be below /dev.
func (s *stage) makeDev() error {
	if !s.plan.Autodev {
		return nil
	}
	return s.mountFixed("/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=512k")
}

// fillDev makes missing entries of /dev. Most exist when the configuration has mounted
// the device's own /dev.
func (s *stage) fillDev() error {
	if !s.plan.Autodev {
		return nil
	}
	dev, err := s.inside("/dev", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	for _, n := range nodes {
		if err := makeNode(dev, n); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	for _, l := range devLinks {
		if err := unix.Symlinkat(l[0], dev, l[1]); err != nil && err != unix.EEXIST {
			return fmt.Errorf("%s: %w", l[1], err)
		}
	}
	return s.makeShm(dev)
}

func makeNode(dev int, n node) error {
	err := unix.Mknodat(dev, n.name, unix.S_IFCHR|0o666, int(unix.Mkdev(n.major, n.minor)))
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Fchmodat(dev, n.name, 0o666, 0) // independent of the umask
}

// makeShm makes the directory of POSIX shared memory unless it exists.
func (s *stage) makeShm(dev int) error {
	err := unix.Mkdirat(dev, "shm", 0o1777)
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shm: %w", err)
	}
	return s.mountFixed("/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
}

// makeTerminals mounts the container's own pseudo terminals and opens one of them for
// the console. A terminal of the device would have no name in the container.
func (s *stage) makeTerminals() error {
	if s.plan.PtyMax == 0 {
		return nil
	}
	data := "newinstance,ptmxmode=0666,mode=0620,gid=5,max=" + strconv.Itoa(s.plan.PtyMax)
	if err := s.mountFixed("/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, data); err != nil {
		return err
	}
	if err := s.linkPtmx(); err != nil {
		return fmt.Errorf("/dev/ptmx: %w", err)
	}
	if s.plan.Console {
		if err := s.makeConsole(); err != nil {
			return fmt.Errorf("/dev/console: %w", err)
		}
	}
	return s.makeTtys()
}

// ttyBatch is how many terminals are sent in one packet.
const ttyBatch = 64

// makeTtys makes the terminals for login programs in the container. The launcher keeps
// their master sides open, so that they do not hang up.
func (s *stage) makeTtys() error {
	if s.plan.TtyMax == 0 {
		return nil
	}
	pts, err := s.inside("/dev/pts", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(pts)
	var masters []int
	for i := range s.plan.TtyMax {
		name := "/dev/tty" + strconv.Itoa(i+1)
		master, err := s.makeTty(pts, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if masters = append(masters, master); len(masters) < ttyBatch && i < s.plan.TtyMax-1 {
			continue
		}
		if err := unix.Sendmsg(s.sock, []byte(stageTty), unix.UnixRights(masters...), nil, 0); err != nil {
			return err
		}
		for _, m := range masters {
			_ = unix.Close(m)
		}
		masters = nil
	}
	return nil
}

// makeTty makes one terminal and bind-mounts it where login programs look for it.
func (s *stage) makeTty(pts int, name string) (master int, err error) {
	master, n, err := openTerminal(pts)
	if err != nil {
		return -1, err
	}
	tree, err := cloneMount(pts, strconv.Itoa(n), 0)
	if err != nil {
		return -1, err
	}
	return master, s.attach(tree, name, "file")
}

// ttys returns how many terminals the container gets besides its console.
func (c *Config) ttys() int {
	if c.PtyMax == 0 {
		return 0
	}
	return c.TtyMax
}

// firstTty returns the number of the first terminal: with a console, that is number 0.
func (c *Config) firstTty() int {
	if c.Console {
		return 1
	}
	return 0
}

// openTerminal opens one of the container's pseudo terminals and returns its number.
// Only the kernel makes files in /dev/pts, so its names can be trusted.
func openTerminal(pts int) (master, n int, err error) {
	master, err = unix.Openat(pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	if n, err = unix.IoctlGetInt(master, unix.TIOCGPTN); err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		_ = unix.Close(master)
		return -1, 0, err
	}
	return master, n, nil
}

// linkPtmx makes /dev/ptmx refer to the container's terminals. When the name exists, for
// example in the device's /dev, it mounts the container's ptmx over it.
func (s *stage) linkPtmx() error {
	dev, err := s.inside("/dev", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	if err := unix.Symlinkat("pts/ptmx", dev, "ptmx"); err != unix.EEXIST {
		return err
	}
	var st unix.Stat_t
	if unix.Fstatat(dev, "ptmx", &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return s.bindInside("/dev/pts/ptmx", "/dev/ptmx", "")
}

// bindInside bind-mounts a path of the container on another.
func (s *stage) bindInside(from, to, create string) error {
	src, err := s.inside(from, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	tree, err := cloneMount(src, "", 0)
	if err != nil {
		return err
	}
	return s.attach(tree, to, create)
}

// makeConsole opens a terminal, sends its master side to the launcher and keeps the
// slave side for init.
func (s *stage) makeConsole() error {
	pts, err := s.inside("/dev/pts", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(pts)
	master, n, err := openTerminal(pts)
	if err != nil {
		return err
	}
	defer unix.Close(master)
	name := path.Join("/dev/pts", strconv.Itoa(n))
	if s.tty, err = s.inside(name, unix.O_RDWR|unix.O_NOCTTY); err != nil {
		return err
	}
	if err := unix.Fchown(s.tty, int(s.plan.UID), -1); err != nil {
		return err
	}
	if err := s.bindInside(name, "/dev/console", "file"); err != nil {
		return err
	}
	return unix.Sendmsg(s.sock, []byte("console"), unix.UnixRights(master), nil, 0)
}

// openConsole makes the console init's terminal. Without a console it uses the
// container's null device: a process that has the device's open could change its mode.
func (s *stage) openConsole() error {
	if s.tty < 0 {
		return openNull()
	}
	for fd := range 3 {
		if err := unix.Dup3(s.tty, fd, 0); err != nil {
			return err
		}
	}
	return unix.IoctlSetInt(0, unix.TIOCSCTTY, 0)
}

// openNull opens the container's null device, if it has one.
func openNull() error {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil //nolint:nilerr // an image may have no /dev
	}
	defer unix.Close(fd)
	if !isNull(fd) {
		return nil
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	for std := range 3 {
		if err := unix.Dup3(fd, std, 0); err != nil {
			return err
		}
	}
	return nil
}

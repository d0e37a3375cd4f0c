package pventer

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a terminal of the command's own, which stands in for the user's: whoever
// has a terminal open can type on it (ioctl_tty(2), TIOCSTI), and the container must not
// type what a shell of the device reads.
type terminal struct {
	master, slave *os.File
	user          *os.File // the user's terminal, for its size
	keys          *os.File // the same, if it is the command's input
	screen        *os.File // the same, if it is among the command's outputs
	saved         *unix.Termios
	shown         chan struct{} // closed when all output is
	resized       chan os.Signal
}

// asTerminal returns the file behind a stream if it is a terminal, else nil.
func asTerminal(stream any) *os.File {
	f, ok := stream.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	return f
}

// standIn puts a new terminal in the place of each stream that is a terminal; without
// any there is none, and it returns nil.
func (v *visit) standIn() (*terminal, error) {
	in, out, bad := asTerminal(v.stdin), asTerminal(v.stdout), asTerminal(v.stderr)
	t := &terminal{keys: in, screen: out}
	if t.screen == nil {
		t.screen = bad
	}
	if t.user = t.keys; t.user == nil {
		t.user = t.screen
	}
	if t.user == nil {
		return nil, nil
	}
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("opening a terminal for the command: %w", err)
	}
	v.own = t.slave
	if in != nil {
		v.stdin = t.slave
	}
	if out != nil {
		v.stdout = t.slave
	}
	if bad != nil {
		v.stderr = t.slave
	}
	return t, nil
}

// session makes the command's terminal that of a session of its own.
func (v *visit) session() *syscall.SysProcAttr {
	for fd, stream := range []any{v.stdin, v.stdout, v.stderr} {
		if v.own != nil && stream == any(v.own) {
			return &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: fd}
		}
	}
	return &syscall.SysProcAttr{}
}

// open makes the pair of terminals (pty(7)).
func (t *terminal) open() (err error) {
	if t.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	number := 0
	err = control(t.master, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	if err == nil {
		t.slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		_ = t.master.Close()
	}
	return err
}

// control works on a descriptor that somebody else may be using.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if ctl := raw.Control(func(fd uintptr) { err = do(int(fd)) }); ctl != nil {
		return ctl
	}
	return err
}

// start lets the user's terminal pass everything on, and follows its size.
func (t *terminal) start() {
	t.shown, t.resized = make(chan struct{}), make(chan os.Signal, 1)
	t.resize()
	signal.Notify(t.resized, unix.SIGWINCH)
	go func() {
		for range t.resized {
			t.resize()
		}
	}()
	if t.keys != nil {
		t.passOn()
		go func() { _, _ = io.Copy(t.master, t.keys) }() // ends with the program
	}
	go func() {
		defer close(t.shown)
		if t.screen != nil {
			_, _ = io.Copy(t.screen, t.master)
		} else {
			_, _ = io.Copy(io.Discard, t.master) // the echo of keys
		}
	}()
}

func (t *terminal) resize() {
	if size, err := unix.IoctlGetWinsize(int(t.user.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = control(t.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
	}
}

// passOn makes the user's terminal raw, as cfmakeraw(3) does.
func (t *terminal) passOn() {
	fd := int(t.keys.Fd())
	saved, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return
	}
	raw := *saved
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(fd, unix.TCSETS, &raw) == nil {
		t.saved = saved
	}
}

// lateOutput is how long the terminal stays open for what the command has left running.
const lateOutput = time.Second

// end shows what is left to show and gives the user his terminal back.
func (t *terminal) end() {
	signal.Stop(t.resized)
	close(t.resized)
	_ = t.slave.Close()
	_ = t.master.SetReadDeadline(time.Now().Add(lateOutput))
	<-t.shown
	if t.saved != nil {
		_ = unix.IoctlSetTermios(int(t.keys.Fd()), unix.TCSETSW, t.saved)
	}
}

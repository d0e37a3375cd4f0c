package emulator

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// escape is the key before a command of the console: Ctrl-].
const escape = 0x1d

const terminalHelp = "\r\nCtrl-] q  power the device down and leave | Ctrl-] x  cut the power | Ctrl-] r  reset | Ctrl-] Ctrl-]  send Ctrl-]\r\n"

// action is what a key after Escape asks for.
type action int

const (
	actNone action = iota
	actQuit
	actKill
	actReset
	actHelp
)

// keys turns what is typed into bytes for the device and actions. Its zero value
// is ready; an Escape at the end of one call is remembered for the next.
type keys struct{ escaped bool }

func (k *keys) feed(in []byte) (out []byte, acts []action) {
	for _, c := range in {
		if !k.escaped {
			if c == escape {
				k.escaped = true
			} else {
				out = append(out, c)
			}
			continue
		}
		k.escaped = false
		switch c {
		case 'q', 'Q':
			acts = append(acts, actQuit)
		case 'x', 'X':
			acts = append(acts, actKill)
		case 'r', 'R':
			acts = append(acts, actReset)
		case escape:
			out = append(out, c)
		default:
			acts = append(acts, actHelp)
		}
	}
	return out, acts
}

// terminal joins the user's terminal, in raw mode, to the console until the
// device is off.
func (o *Options) terminal(ctx context.Context, m *Machine, in, out *os.File) error {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fault.Wrap(fault.IO, err, "switching the terminal to raw mode")
	}
	defer func() { _ = term.Restore(int(in.Fd()), old) }()
	fmt.Fprintf(out, "console of %s (%s)%s", o.Target, o.Accelerator, terminalHelp)
	m.Console.CopyTo(out)
	defer m.Console.CopyTo(nil)
	typed := make(chan []byte)
	stop, err := readKeys(in, typed)
	if err != nil {
		return err
	}
	defer stop()
	return o.serveTerminal(ctx, m, typed, out)
}

func (o *Options) serveTerminal(ctx context.Context, m *Machine, typed <-chan []byte, out io.Writer) error {
	var k keys
	for {
		select {
		case <-m.Done():
			return m.Wait(ctx)
		case <-ctx.Done():
			return o.powerOff(ctx, m)
		case b, ok := <-typed:
			if !ok {
				return o.powerOff(ctx, m)
			}
			bytes, acts := k.feed(b)
			if len(bytes) > 0 {
				_, _ = m.Console.Write(bytes)
			}
			for _, a := range acts {
				if done, err := o.act(ctx, m, a, out); done {
					return err
				}
			}
		}
	}
}

func (o *Options) act(ctx context.Context, m *Machine, a action, out io.Writer) (done bool, err error) {
	switch a {
	case actQuit:
		fmt.Fprint(out, "\r\n[powering off]\r\n")
		quiet := *o
		quiet.Stderr = io.Discard
		return true, quiet.powerOff(ctx, m)
	case actKill:
		fmt.Fprint(out, "\r\n[power cut]\r\n")
		m.Kill()
		return true, nil
	case actReset:
		return false, m.Reset(ctx)
	}
	fmt.Fprint(out, terminalHelp)
	return false, nil
}

// readKeys reads the terminal until stop is called, without leaving a read behind
// that would swallow the shell's next key: it polls together with a pipe.
func readKeys(in *os.File, typed chan []byte) (stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "making a pipe")
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		defer close(typed)
		readUntil(int(in.Fd()), int(r.Fd()), typed)
	}()
	return func() {
		_ = w.Close() // wakes the poll; who waits to send is freed by reading
		for range typed {
		}
		<-finished
		_ = r.Close()
	}, nil
}

func readUntil(in, wake int, typed chan<- []byte) {
	for {
		fds := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil || fds[1].Revents != 0 {
			return
		}
		b := make([]byte, 256)
		n, err := unix.Read(in, b)
		if err != nil || n == 0 {
			return
		}
		typed <- b[:n]
	}
}

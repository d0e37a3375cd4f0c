package emulator

import (
	"context"
	"errors"
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
	if o.serial != nil {
		m.Console.CopyTo(io.MultiWriter(o.serial, out))
	} else {
		m.Console.CopyTo(out)
	}
	defer m.Console.CopyTo(nil)
	typed := make(chan []byte)
	stop, err := readKeys(in, typed)
	if err != nil {
		return err
	}
	defer stop()
	return o.serveTerminal(ctx, m, typed, out)
}

// serveTerminal passes keys on until the machine is off. While it powers off, keys are
// served too: the power can still be cut.
func (o *Options) serveTerminal(ctx context.Context, m *Machine, typed <-chan []byte, out io.Writer) error {
	var k keys
	var left <-chan error // of a power-off that was asked for
	for {
		select {
		case err := <-left:
			return err
		case <-m.Done():
			if left != nil {
				return <-left
			}
			return m.Wait(context.WithoutCancel(ctx))
		case <-ctx.Done():
			m.Kill()
			return fault.Wrap(fault.Cancelled, context.Cause(ctx), "running %s", o.Target)
		case b, ok := <-typed:
			if !ok { // the terminal is gone
				typed, left = nil, o.leave(ctx, m, left)
				continue
			}
			bytes, acts := k.feed(b)
			if len(bytes) > 0 {
				_, _ = m.Console.Write(bytes)
			}
			for _, a := range acts {
				left = o.act(ctx, m, a, out, left)
			}
		}
	}
}

// act does what a key asks for; left is that of a power-off that was asked for before.
func (o *Options) act(ctx context.Context, m *Machine, a action, out io.Writer, left <-chan error) <-chan error {
	switch a {
	case actQuit:
		fmt.Fprint(out, "\r\n[powering off; Ctrl-] x cuts the power]\r\n")
		return o.leave(ctx, m, left)
	case actKill:
		fmt.Fprint(out, "\r\n[power cut]\r\n")
		m.Kill()
		cut := make(chan error, 1)
		cut <- nil
		return cut
	case actReset:
		if err := m.Reset(ctx); err != nil {
			fmt.Fprintf(out, "\r\n[%v]\r\n", err)
		}
		return left
	}
	fmt.Fprint(out, terminalHelp)
	return left
}

// leave saves the logs and powers off beside the terminal, unless left says that this is
// in progress. The channel gets the result.
func (o *Options) leave(ctx context.Context, m *Machine, left <-chan error) <-chan error {
	if left != nil {
		return left
	}
	quiet := *o
	quiet.Stderr = io.Discard
	result := make(chan error, 1)
	go func() { result <- errors.Join(quiet.save(ctx, m), quiet.powerOff(ctx, m)) }()
	return result
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

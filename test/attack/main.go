// Command attack is the program of the hostile containers of the App Engine tests in
// test/suites/attack. It tries what a container must not be able to do and prints a line
// for each attempt:
//
//	held     NAME           the attempt failed as it must
//	BROKEN   NAME           it succeeded
//	unclear  NAME: error    it failed for another reason, so nothing is shown
//
// Outside of a container, in a virtual machine,
// the same attempts succeed; that shows that the lines can change.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attack is one attempt.
type attack struct {
	set  string // the containers that make it: "any", "confined", ...
	name string
	// try returns nil when it has succeeded.
	try func() error
	// held are the errors that show that the device has denied it.
	held []error
}

// errHeld is the error of an attempt that has looked for itself that it was denied.
var errHeld = errors.New("denied")

// errAbsent is the error of an attempt on what this machine does not have.
var errAbsent = errors.New("not on this machine")

// errWrong is the error of an attempt that did not find what it is made on.
var errWrong = errors.New("it cannot be tried")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

// modes are the words that the program takes first.
var modes = map[string]func(args []string) error{
	"init":    becomeInit, // DIR SET...: makes the attempts, notes them in DIR/init, and stays
	"hook":    noteHook,   // DIR SET...: makes the attempts and notes them in DIR/hook
	"run":     func(sets []string) error { return attempts(os.Stdout, sets) },
	"batch":   batch,
	"ask":     func([]string) error { return ask() },
	"keep":    func(args []string) error { return keep(args[0]) },
	"user":    func([]string) error { return insideUser() },
	"noise":   func(args []string) error { return noise(args[0]) },
	"silence": func([]string) error { return silence() },
	"silent":  func([]string) error { return silent() },
	"show":    func(args []string) error { return show(args[0]) },
	"sleep":   func([]string) error { time.Sleep(time.Hour); return nil },
}

func run(args []string) error {
	if len(args) == 0 || modes[args[0]] == nil {
		return errors.New("the first word is not a mode")
	}
	return modes[args[0]](args[1:])
}

// becomeInit is the container's init.
func becomeInit(args []string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGPWR, unix.SIGINT)
	if err := leaveTraces(); err != nil {
		return err
	}
	if err := note(filepath.Join(args[0], "init"), args[1:]); err != nil {
		return err
	}
	<-stop
	return nil
}

// noteHook is a hook. It leaves a process behind that keeps the runtime's program.
func noteHook(args []string) error {
	keeper := exec.Command(ownProgram, "keep", filepath.Join(args[0], "kept"))
	if err := keeper.Start(); err != nil {
		return err
	}
	// LXC adds words of its own behind those of the configuration.
	sets, _, _ := strings.Cut(strings.Join(args[1:], " ")+" -- ", " -- ")
	return note(filepath.Join(args[0], "hook"), strings.Fields(sets))
}

// note makes the attempts and writes their lines to a file, whole or not at all.
func note(file string, sets []string) error {
	var b bytes.Buffer
	if err := attempts(&b, sets); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// show prints a note when it is there.
func show(file string) error {
	for range 600 {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = os.Stdout.Write(text)
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s has not come", file)
}

// ownProgram is where the containers have this program.
const ownProgram = "/sbin/attack"

// attemptTime bounds one attempt.
const attemptTime = 30 * time.Second

// attempts makes the attempts of some sets in a process of their own, which may end up in
// other control groups.
func attempts(w io.Writer, sets []string) error {
	cmd := exec.Command("/proc/self/exe", append([]string{"batch"}, sets...)...)
	cmd.Stdout, cmd.Stderr = w, w
	return cmd.Run()
}

// batch makes the attempts of some sets, each in a thread that ends with it.
func batch(sets []string) error {
	for _, a := range attacks {
		if !slices.Contains(sets, a.set) {
			continue
		}
		result := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			result <- a.try()
		}()
		var err error
		select {
		case err = <-result:
		case <-time.After(attemptTime):
			err = errors.New("it takes too long")
		}
		if _, err := fmt.Println(a.verdict(err)); err != nil {
			return err
		}
	}
	return nil
}

// verdict returns the line of an attempt.
func (a attack) verdict(err error) string {
	if err == nil {
		return "BROKEN   " + a.name
	}
	for _, held := range append(a.held, errHeld, errAbsent) {
		if errors.Is(err, held) {
			return "held     " + a.name
		}
	}
	return fmt.Sprintf("unclear  %s: %v", a.name, err)
}

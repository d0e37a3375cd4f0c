package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// cancelled is the exit code of docs/exit-codes.md for a command that was interrupted.
const cancelled = 130

// signals passes SIGTERM and SIGHUP on to the program that runs, which need not be in the
// group of processes that was signalled.
type signals struct {
	mu     sync.Mutex
	child  *os.Process
	signal os.Signal // the first that came
}

func watchSignals() *signals {
	s := &signals{}
	came := make(chan os.Signal, 1)
	signal.Notify(came, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for one := range came {
			s.pass(one)
		}
	}()
	return s
}

func (s *signals) pass(one os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signal == nil {
		s.signal = one
	}
	if s.child != nil && one != syscall.SIGINT { // the terminal gives that to all
		_ = s.child.Signal(one)
	}
}

// start runs a program to its end and returns its exit code. After a signal nothing new is
// started.
func (s *signals) start(name string, args []string, dir string, env []string, out *os.File) (code int, err error) {
	path, err := lookUp(name)
	if err != nil {
		return 1, err
	}
	s.mu.Lock()
	if s.signal != nil {
		s.mu.Unlock()
		return cancelled, nil
	}
	s.child, err = os.StartProcess(path, append([]string{name}, args...), &os.ProcAttr{
		Dir: dir, Env: env, Files: []*os.File{os.Stdin, out, os.Stderr},
	})
	child := s.child
	s.mu.Unlock()
	if err != nil {
		return 1, err
	}
	state, err := child.Wait()
	s.mu.Lock()
	s.child = nil
	s.mu.Unlock()
	if err != nil {
		return 1, err
	}
	if code = state.ExitCode(); code < 0 { // it died of a signal
		code = 1
	}
	return code, nil
}

// lookUp finds a program on the PATH; os/exec would be a dozen packages more.
func lookUp(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return filepath.Abs(path)
		}
	}
	return "", &os.PathError{Op: "looking for", Path: name, Err: os.ErrNotExist}
}

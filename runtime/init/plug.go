package init

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/modules"
)

// lowest is the priority behind everything else.
const lowest = 19

// debugMark stands before those lines of "cold-plug" that only the debug log is
// to have (as sd-daemon(3) marks the level of a line).
const debugMark = "<7>"

// ColdPlug is the command "cold-plug": it loads the modules for all devices of
// the machine at the lowest priority, one line on standard error for each that did
// not load. Process 1 starts it once the revision runs.
func ColdPlug(ctx context.Context, _ []string, _ io.Reader, _, stderr io.Writer) int {
	name("pv-cold-plug")
	if unix.Setpgid(0, 0) == nil { // a group of its own has all of its threads and nothing else
		_ = unix.Setpriority(unix.PRIO_PGRP, 0, lowest)
	}
	if err := plugAll(ctx, func(err error) { _, _ = fmt.Fprintf(stderr, debugMark+"%v\n", err) }); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func plugAll(ctx context.Context, idle func(error)) error {
	dir, err := modules.Directory("/")
	if err != nil {
		return err
	}
	l := modules.NewLoader(dir)
	l.Idle = idle
	settings, err := modules.Read(modulesConf, kernelLine)
	l.Settings = settings
	errs := []error{err}
	for _, load := range []func() error{
		// First the power button: nobody can press it before, and presses do not
		// wait. It is read through evdev, which no device asks for by itself.
		func() error { return known(l.Load("evdev")) },
		func() error { _, err := l.LoadFor(powerButtons...); return err },
		func() error { _, err := l.ColdPlug(ctx, nil); return err },
	} {
		errs = append(errs, load())
	}
	return errors.Join(errs...)
}

// Where the settings of modules are.
const (
	modulesConf = "/etc/modprobe.d"
	kernelLine  = "/proc/cmdline"
)

// powerButtons are the modaliases of those that ACPI knows (ACPI specification,
// "Power Button Control Methods"; Linux's own name of the fixed button).
var powerButtons = []string{"acpi:PNP0C0C:", "acpi:LNXPWRBN:"}

// known drops the error of a module that this kernel does not have.
func known(err error) error {
	if errors.Is(err, modules.ErrUnknown) {
		return nil
	}
	return err
}

// name sets the process's name as ps shows it; a wrong one does no harm.
func name(comm string) { _ = os.WriteFile("/proc/self/comm", []byte(comm), 0) }

// coldPlugWord is the word by which this program loads the modules of all devices.
const coldPlugWord = "cold-plug"

// plugRest loads the modules of the devices that the early set did not know or that
// were left out, as a process of its own: its memory goes with it and it stands
// behind everything else.
func (m *machine) plugRest() {
	if m.storage == "" {
		return
	}
	log := m.log.Named("modules")
	r, w, err := os.Pipe()
	if err != nil {
		log.Warnf("loading the remaining modules: %v", err)
		return
	}
	defer w.Close()
	attr := &syscall.ProcAttr{Dir: "/", Files: []uintptr{0, w.Fd(), w.Fd()}, Env: []string{"GOMAXPROCS=1"}}
	if _, _, err = m.reaper.Spawn("/proc/self/exe", []string{"pantavisor", coldPlugWord}, attr); err != nil {
		_ = r.Close()
		log.Warnf("%v", err)
		return
	}
	m.background("modules", func() error {
		defer debug.FreeOSMemory() // this process has heard of all new devices too
		return relay(r, log)
	})
}

// relay logs what "cold-plug" says, until it ends.
func relay(r io.ReadCloser, log logs.Logger) error {
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 256), 64<<10)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), debugMark); ok {
			log.Debugf("%s", text)
			continue
		}
		log.Warnf("%s", lines.Text())
	}
	return lines.Err()
}

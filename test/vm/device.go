// Package vm is the harness of the tests that boot a composed image: it
// starts images in the emulator, types on the debug shell and asks the control API.
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/targets"
)

// Device is a running image.
type Device struct {
	*emulator.Machine
	shell bool // the debug shell is open
	count int
}

// Boot starts an image on a machine, in a directory that survives power cuts; image ""
// starts what is there already.
func Boot(ctx context.Context, machine targets.Emulator, image, dir string) (*Device, error) {
	m, err := emulator.Start(ctx, emulator.Config{Emulator: machine, Image: image, Dir: dir})
	if err != nil {
		return nil, err
	}
	return &Device{Machine: m}, nil
}

// invitation is what the console says when a debug shell can be had.
const invitation = "Press ENTER for a debug shell."

// Reboot restarts the device through the control API and waits until it comes up.
func (d *Device) Reboot(ctx context.Context) error {
	if err := d.leaveShell(ctx); err != nil {
		return err
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- d.API.Command(asking, api.OpReboot, "test") }()
	// The answer is lost when the line of a slow machine goes down before it.
	if _, err := d.Console.Expect(ctx, "Linux version"); err != nil {
		cancel()
		return errors.Join(err, <-answered)
	}
	return nil
}

func (d *Device) leaveShell(ctx context.Context) error {
	if !d.shell {
		return nil
	}
	d.shell = false
	if _, err := d.Console.Write([]byte("exit\r")); err != nil {
		return err
	}
	_, err := d.Console.Expect(ctx, invitation)
	return err
}

func (d *Device) enterShell(ctx context.Context) error {
	if d.shell {
		return nil
	}
	if _, err := d.Console.Write([]byte("\r")); err != nil {
		return err
	}
	if _, err := d.Console.Expect(ctx, "# "); err != nil {
		return fmt.Errorf("opening the debug shell: %w", err)
	}
	d.shell = true
	_, err := d.Run(ctx, "stty cols 4000 -echo") // long lines stay whole, commands do not come back
	return err
}

// Run runs a command in the debug shell and returns what it prints. An exit code
// other than 0 is an [ExitError].
func (d *Device) Run(ctx context.Context, command string) (string, error) {
	if err := d.enterShell(ctx); err != nil {
		return "", err
	}
	d.count++
	// The quotes keep the marks out of the echo of what is typed.
	begin, end := fmt.Sprintf("BEGIN-%d:", d.count), fmt.Sprintf("END-%d:", d.count)
	line := fmt.Sprintf("echo BE''GIN-%d:; %s; echo EN''D-%d:$?:\r", d.count, command, d.count)
	if _, err := d.Console.Write([]byte(line)); err != nil {
		return "", err
	}
	if out, err := d.Console.Expect(ctx, begin); err != nil {
		return out, fmt.Errorf("running %q: %w", command, err)
	}
	out, err := d.Console.Expect(ctx, end)
	if err != nil {
		return out, fmt.Errorf("running %q: %w", command, err)
	}
	status, err := d.Console.Expect(ctx, ":")
	if err != nil {
		return out, fmt.Errorf("running %q: %w", command, err)
	}
	out = strings.TrimSpace(strings.ReplaceAll(strings.TrimSuffix(out, end), "\r", ""))
	code, err := strconv.Atoi(strings.TrimSuffix(status, ":"))
	if err != nil {
		return out, fmt.Errorf("running %q: exit code %q: %w", command, status, err)
	}
	if code != 0 {
		return out, &ExitError{command, code, out}
	}
	return out, nil
}

// ExitError is a command of the debug shell that failed.
type ExitError struct {
	Command string
	Code    int
	Output  string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("running %q on the device: exit code %d: %s", e.Command, e.Code, e.Output)
}

// Root finds the source tree above the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the working directory")
}

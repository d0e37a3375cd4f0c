// Package installer writes the image that an installation medium carries to a disk of the
// machine. It is process 1 of that medium's initrd, and has a menu on every console.
//
//	      +-- key or no disk --> menu <----------+
//	      |                       |              |
//	count-down                 list, "yes"     error
//	      |                       |              |
//	      +-----> writing and verifying ---------+
//	                      |
//	            ENTER, then restart
//
// The automatic installation takes the first permanent disk by name that is large enough
// and not in use: none that is removable or on USB, and never the medium itself, which is
// mounted. A silent installation (pv_install_ask=no) has neither count-down nor menu: it
// waits for such a disk, writes, and switches the machine off, because a restart could
// start the installation again. After an error it waits for ENTER.
package installer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/flash"
)

// choice is what a user has chosen, or the count-down.
type choice int

const (
	automatic choice = iota
	manual
	off
)

// end is how the machine goes on.
type end int

const (
	restart end = iota
	powerOff
)

// session is an installation.
type session struct {
	// screen writes to every console; keys are those of any of them.
	screen *screen
	keys   <-chan byte
	// second ticks the count-down and the search for disks.
	second <-chan time.Time
	// image is what is installed, size its size in bytes.
	image string
	size  int64
	// wait is the count-down in seconds; silent leaves menu and count-down out.
	wait   int
	silent bool
	// disks lists the disks, install writes one.
	disks   func() ([]flash.Disk, error)
	install func(ctx context.Context, disk flash.Disk, progress func(flash.Phase, int64, int64)) error
}

// run installs, and returns how the machine goes on.
func (s *session) run(ctx context.Context) (end, error) {
	s.screen.print("\nPantavisor installer\n%s (%s)\n", filepath.Base(s.image), megabytes(s.size))
	for {
		disk, how, err := s.pick(ctx)
		if err != nil {
			return powerOff, err
		}
		if how == off {
			return powerOff, nil
		}
		if disk == nil {
			continue
		}
		if err := s.write(ctx, *disk); err != nil {
			s.screen.print("\nThe installation has failed: %v\nThe disk cannot be booted. Press ENTER to try again.\n", err)
			if _, err := s.line(ctx); err != nil {
				return powerOff, err
			}
			continue
		}
		return s.finish(ctx, *disk)
	}
}

// finish asks for the restart.
func (s *session) finish(ctx context.Context, d flash.Disk) (end, error) {
	s.screen.print("\nThe installation on %s is complete and verified.\n", d.Path)
	if s.silent {
		s.screen.print("Remove the installation medium. The machine is switched off.\n")
		return powerOff, nil
	}
	s.screen.print("Remove the installation medium, then press ENTER to restart.\n")
	_, err := s.line(ctx)
	return restart, err
}

// pick returns the disk to write, nil when there is none and the menu is to come again.
func (s *session) pick(ctx context.Context) (*flash.Disk, choice, error) {
	if s.silent {
		d, err := s.await(ctx)
		return d, automatic, err
	}
	how, err := s.menu(ctx)
	if err != nil || how == off {
		return nil, how, err
	}
	if how == manual {
		d, err := s.choose(ctx)
		return d, how, err
	}
	d, why := s.first()
	if d == nil {
		s.screen.print("%s\n", why)
	}
	return d, how, nil
}

// await waits until there is a disk for a silent installation.
func (s *session) await(ctx context.Context) (*flash.Disk, error) {
	said := ""
	for {
		d, why := s.first()
		if d != nil {
			return d, nil
		}
		if why != said {
			s.screen.print("Waiting for a disk: %s\n", why)
			said = why
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.second:
		case <-s.keys:
		}
	}
}

// first returns the disk of the automatic installation, or why there is none.
func (s *session) first() (*flash.Disk, string) {
	all, err := s.disks()
	if err != nil {
		return nil, err.Error()
	}
	reasons := []string{"there is no permanent disk that can be overwritten"}
	for _, d := range all {
		err := s.fits(d)
		switch {
		case !d.Permanent:
			err = errors.New("it is not permanent")
		case err == nil:
			return &d, ""
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", d.Path, err))
	}
	return nil, strings.Join(reasons, "; ")
}

// fits returns nil for a disk that can be overwritten with the image, or why it cannot.
func (s *session) fits(d flash.Disk) error {
	if err := d.Usable(); err != nil {
		return err
	}
	if d.Size < s.size {
		return errors.New("it is too small")
	}
	return nil
}

// menu shows the menu and counts down until a key is pressed. Without a disk the count-down
// stands still.
func (s *session) menu(ctx context.Context) (choice, error) {
	s.screen.print("\n  1  automatic installation on the first permanent disk\n" +
		"  2  manual installation: choose the disk from a list\n" +
		"  3  switch off\n\nEverything on the disk is lost. Press a key to stop the count-down.\n")
	key, stopped, err := s.countDown(ctx)
	if err != nil || !stopped {
		return automatic, err
	}
	for {
		s.screen.print("\nYour choice: ")
		text, err := s.lineFrom(ctx, key)
		if err != nil {
			return off, err
		}
		key = 0
		for name, c := range map[string]choice{"1": automatic, "2": manual, "3": off} {
			if text == name {
				return c, nil
			}
		}
		s.screen.print("Type 1, 2 or 3 and ENTER.\n")
	}
}

// countDown returns the key that stopped it.
func (s *session) countDown(ctx context.Context) (key byte, stopped bool, err error) {
	said := ""
	for left := s.wait; ; {
		d, why := s.first()
		switch {
		case d != nil && left == 0:
			s.screen.print("\n")
			return 0, false, nil
		case d != nil:
			why = fmt.Sprintf("Installing on %s in %d s", describe(*d), left)
			left--
		}
		if why != said {
			s.screen.update("%s", why)
			said = why
		}
		select {
		case <-ctx.Done():
			return 0, false, ctx.Err()
		case key := <-s.keys:
			s.screen.print("\n")
			return key, true, nil
		case <-s.second:
		}
	}
}

// choose lets the user pick a disk; nil when he goes back to the menu.
func (s *session) choose(ctx context.Context) (*flash.Disk, error) {
	all, err := s.disks()
	if err != nil {
		s.screen.print("%v\n", err)
		return nil, nil
	}
	s.screen.print("\n")
	for i, d := range all {
		note := ""
		if err := s.fits(d); err != nil {
			note = ": " + err.Error()
		}
		s.screen.print("  %d  %s%s\n", i+1, describe(d), note)
	}
	s.screen.print("\nNumber of the disk, or ENTER to go back: ")
	text, err := s.line(ctx)
	if err != nil || text == "" {
		return nil, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > len(all) {
		s.screen.print("There is no disk %q.\n", text)
		return nil, nil
	}
	d := all[n-1]
	if err := s.fits(d); err != nil {
		s.screen.print("%s cannot be used: %v\n", d.Path, err)
		return nil, nil
	}
	s.screen.print("Everything on %s will be lost. Type yes and ENTER to write it: ", describe(d))
	if text, err = s.line(ctx); err != nil || !strings.EqualFold(text, "yes") {
		return nil, err
	}
	return &d, nil
}

// write installs on a disk and shows how far it is.
func (s *session) write(ctx context.Context, d flash.Disk) error {
	s.screen.print("\nDo not switch the machine off. Installing on %s.\n", describe(d))
	said := ""
	err := s.install(ctx, d, func(p flash.Phase, done, total int64) {
		if text := fmt.Sprintf("%s: %d %% of %s", p, done*100/max(total, 1), megabytes(total)); text != said {
			s.screen.update("%s", text)
			said = text
		}
	})
	s.screen.print("\n")
	return err
}

// line reads a line of keys and shows it.
func (s *session) line(ctx context.Context) (string, error) { return s.lineFrom(ctx, 0) }

// maxLine bounds what is kept of a line.
const maxLine = 64

// lineFrom reads a line whose first key was read already; 0 is none.
func (s *session) lineFrom(ctx context.Context, key byte) (string, error) {
	var text []byte
	for {
		switch {
		case key == '\r' || key == '\n':
			s.screen.print("\n")
			return strings.TrimSpace(string(text)), nil
		case (key == '\b' || key == 0x7f) && len(text) > 0:
			text = text[:len(text)-1]
			s.screen.print("\b \b")
		case key >= ' ' && key < 0x7f && len(text) < maxLine:
			text = append(text, key)
			s.screen.print("%c", key)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case key = <-s.keys:
		}
	}
}

// describe names a disk for people.
func describe(d flash.Disk) string {
	if d.Model == "" {
		return fmt.Sprintf("%s (%s)", d.Path, megabytes(d.Size))
	}
	return fmt.Sprintf("%s (%s, %s)", d.Path, printable(d.Model), megabytes(d.Size))
}

// printable replaces what a disk's name may have that a terminal obeys.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func megabytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

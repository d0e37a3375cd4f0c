package modules

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/uevent"
)

// ColdPlug loads the modules for all devices that /sys lists, and for the devices
// that these modules bring, until nothing new comes. It returns how many modules
// were loaded; errors of single modules do not stop it.
//
// Drivers that bring disks at once go first. enough, if not nil, is asked before
// each dearer kind: when it says so, the rest is left to another call.
func (l *Loader) ColdPlug(ctx context.Context, enough func() bool) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := plug{Loader: l, seen: map[string]bool{}, sorted: enough != nil}
	var errs []error
	for ctx.Err() == nil {
		errs = append(errs, p.look())
		k := slices.IndexFunc(p.waiting[:], func(names []string) bool { return len(names) > 0 })
		if k < 0 || k > 0 && enough() {
			break
		}
		n, failed := l.load(p.waiting[k])
		errs = append(errs, l.sift(failed))
		p.waiting[k] = nil
		p.total += n
	}
	return p.total, errors.Join(append(errs, ctx.Err())...)
}

// plug is one cold plug.
type plug struct {
	*Loader
	seen    map[string]bool // directories of devices
	sorted  bool            // by kind; else all are of the first
	waiting [kinds][]string // modules to load
	total   int
}

// look finds the modules for devices that were not there before.
func (p *plug) look() error {
	names, err := p.claimed(modaliases(p.sys, p.seen))
	names = slices.DeleteFunc(names, func(n string) bool { return p.loaded[n] })
	if err != nil || len(names) == 0 {
		return err
	}
	if !p.sorted {
		p.waiting[0] = append(p.waiting[0], names...)
		return nil
	}
	x, err := readIndex(p.dir, "", names)
	if err != nil {
		return err
	}
	for _, n := range names {
		k := kind(x.files[n])
		p.waiting[k] = append(p.waiting[k], n)
	}
	return nil
}

// kinds of drivers: those of whom a disk, or a bus with disks, may be had at once;
// those whose disks take long to come; those without disks.
const kinds = 3

// kind sorts a module by its file, "kernel/drivers/ata/ahci.ko".
func kind(file string) int {
	rest, ok := strings.CutPrefix(file, "kernel/drivers/")
	if !ok {
		return 0
	}
	directory, _, _ := strings.Cut(rest, "/")
	switch directory { // the kernel's directories of drivers
	case "ata", "scsi", "message", "usb", "firewire":
		return 1
	case "acpi", "char", "gpu", "hid", "input", "media", "net", "power", "rtc", "thermal", "video":
		return 2
	}
	return 0
}

// modaliases collects what the devices that were not seen before say of
// themselves. It goes by bus and not through all of /sys/devices, which has ten
// times as many directories; what has a modalias without being on a bus is in the two
// classes.
func modaliases(sys string, seen map[string]bool) []string {
	var dirs []string
	for _, pattern := range []string{"bus/*/devices", "class/input", "class/dmi"} {
		m, _ := filepath.Glob(filepath.Join(sys, pattern)) // the patterns are well-formed
		dirs = append(dirs, m...)
	}
	var out []string
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // a bus that went while we looked
		for _, e := range entries {
			path := dir + "/" + e.Name()
			if seen[path] {
				continue
			}
			seen[path] = true
			if m := readAttribute(path + "/modalias"); m != "" { // most have one, none is an error
				out = append(out, m)
			}
		}
	}
	return out
}

// readAttribute returns a text of sysfs, "" when there is none. There are hundreds
// to read at boot: it takes no more system calls than it must.
func readAttribute(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var page [4096]byte // what an attribute has at most
	n, err := unix.Read(fd, page[:])
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(page[:n]))
}

// HotPlug loads modules for devices that come, until ctx ends; failed is told
// about modules that could not be loaded. When events were lost it looks at all
// devices again.
func (l *Loader) HotPlug(ctx context.Context, events *uevent.Conn, failed func(error)) error {
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer stop()
	for {
		e, err := events.Next()
		switch {
		case errors.Is(err, uevent.ErrLost):
			_, err = l.ColdPlug(ctx, nil)
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case e.Action == "add" && e.Env["MODALIAS"] != "":
			_, err = l.LoadFor(e.Env["MODALIAS"])
		}
		if err != nil {
			failed(err)
		}
	}
}

package modules

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/uevent"
)

// ColdPlug loads the modules for all devices that /sys lists, and again for the
// devices that these modules bring, until nothing new comes. It returns how many
// modules were loaded; errors of single modules do not stop it.
func (l *Loader) ColdPlug(ctx context.Context) (int, error) {
	total := 0
	var errs []error
	for n := 1; n > 0 && ctx.Err() == nil; {
		var err error
		n, err = l.LoadFor(modaliases(l.sys)...)
		errs = append(errs, err)
		total += n
	}
	return total, errors.Join(append(errs, ctx.Err())...)
}

// modaliases collects what the devices say of themselves. It goes by bus and not
// through all of /sys/devices, which has ten times as many folders; what has a
// modalias without being on a bus is in the two classes.
func modaliases(sys string) []string {
	var dirs []string
	for _, pattern := range []string{"bus/*/devices", "class/input", "class/dmi"} {
		m, _ := filepath.Glob(filepath.Join(sys, pattern)) // the patterns are well-formed
		dirs = append(dirs, m...)
	}
	var out []string
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // a bus that went while we looked
		for _, e := range entries {
			b, _ := os.ReadFile(dir + "/" + e.Name() + "/modalias") // most have one, none is an error
			if m := strings.TrimSpace(string(b)); m != "" {
				out = append(out, m)
			}
		}
	}
	return out
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
			_, err = l.ColdPlug(ctx)
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

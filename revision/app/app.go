// Package app makes applications in a checkout: directories that hold src.json, the
// files that the template renders from it (run.json, lxc.container.conf), the root file
// system as squashfs and the digest of its source (manual: pvr, app commands; device
// mapper commands). It needs neither root nor another program.
//
// The files of an application change in an order that can be repaired after a kill: the
// manifest first, then the image, its digest last, so that [Workspace.Install] sees
// what is unfinished. A new application appears as a whole.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// File names in an application's directory.
const (
	SourceName  = "src.json"
	runName     = "run.json"
	rootName    = "root.squashfs"
	overlayName = "root.ovl.squashfs"

	dockerDigest = ".docker-digest"
	rootfsDigest = ".rootfs-digest"
)

// Message is a message to the user about a running operation. Text is the line to
// print; the other fields say the same to programs.
type Message struct {
	// Text is one line or more, without the last newline.
	Text string `json:"text"`
	// Notice lines belong on standard error, the others are the operation's output.
	Notice bool `json:"notice,omitempty"`
	// App is the application concerned.
	App string `json:"app,omitempty"`
	// File is the file concerned, relative to the checkout.
	File string `json:"file,omitempty"`
}

// Repository returns the state that a reference such as a path or URL names (without
// fragment), and a store that holds the objects that the fragment takes.
type Repository interface {
	Fetch(ctx context.Context, reference string, f state.Fragment) (*state.State, *objects.Store, error)
}

// Workspace is a checkout to work in.
type Workspace struct {
	// Dir is the checkout.
	Dir string
	// Groups is the tracked groups.json; nil when there is none.
	Groups []byte
	// Device is the tracked device.json; nil when there is none.
	Device []byte
	// DockerConfig is the committed _hostconfig/pvr/docker.json; nil when there is
	// none. Its platforms are in order of preference.
	DockerConfig []byte
	// Images controls how container images are found; its Platforms are those that
	// the user asked for and take precedence over DockerConfig.
	Images image.Options
	// Repository gives the parts of other repositories; nil when there is none.
	Repository Repository
	// Report is called with each message; may be nil.
	Report func(Message)
	// CheckConfig reads a rendered lxc.container.conf as a device does; its error is that
	// of a start, the warnings name what has no effect. Nil checks nothing.
	CheckConfig func(config []byte) (warnings []string, err error)
	// NoSBOM makes no bills of materials, and removes those that are there of applications that are made.
	NoSBOM bool
	// Blocks shares the work on root file systems with other workspaces; nil for none.
	Blocks *squashfs.Cache
	// Limit bounds the files of one root file system together, in bytes; default
	// 8 GiB.
	Limit int64
}

const defaultLimit = 8 << 30

func (w *Workspace) limit() int64 {
	if w.Limit > 0 {
		return w.Limit
	}
	return defaultLimit
}

func (w *Workspace) say(app, file, format string, args ...any) {
	w.tell(Message{App: app, File: file, Text: fmt.Sprintf(format, args...)})
}

func (w *Workspace) notice(app, format string, args ...any) {
	w.tell(Message{App: app, Notice: true, Text: fmt.Sprintf(format, args...)})
}

func (w *Workspace) tell(m Message) {
	if w.Report != nil {
		w.Report(m)
	}
}

// CheckName checks an application's name, slashes around it taken off, and
// returns it.
func CheckName(name string) (string, error) {
	name = strings.Trim(name, "/")
	if err := state.CheckKey(name); err != nil || strings.ContainsAny(name, "/\\ \t\n") || strings.HasPrefix(name, "#") || strings.HasPrefix(name, ".") {
		return "", fault.New(fault.BadInput, "application name %q: one path element without blanks that does not begin with a dot is expected", name)
	}
	return name, nil
}

func (w *Workspace) directory(name string) string { return filepath.Join(w.Dir, name) }

// Exists reports whether the checkout has a directory of that name.
func (w *Workspace) Exists(name string) bool {
	_, err := os.Lstat(w.directory(name))
	return err == nil
}

// List returns the names of the applications, sorted.
func (w *Workspace) List() ([]string, error) {
	entries, err := os.ReadDir(w.Dir)
	if err != nil {
		return nil, fmt.Errorf("listing the applications: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, err := CheckName(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		if info, err := os.Stat(filepath.Join(w.directory(e.Name()), SourceName)); err == nil && info.Mode().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// read returns an application's manifest.
func (w *Workspace) read(name string) (*Source, error) {
	s, err := readSource(filepath.Join(w.directory(name), SourceName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.BadInput, "application %q: it has no %s; pvr app ls lists the applications", name, SourceName)
	}
	return s, err
}

// Info returns an application's src.json.
func (w *Workspace) Info(name string) (canon.Value, error) {
	name, err := CheckName(name)
	if err != nil {
		return canon.Value{}, err
	}
	s, err := w.read(name)
	if err != nil {
		return canon.Value{}, err
	}
	return s.JSON(), nil
}

// Remove deletes an application's directory, not its configuration or signatures.
func (w *Workspace) Remove(name string) error {
	name, err := CheckName(name)
	if err != nil {
		return err
	}
	if _, err := w.read(name); err != nil {
		return err
	}
	if err := os.RemoveAll(w.directory(name)); err != nil {
		return fmt.Errorf("removing application %q: %w", name, err)
	}
	return nil
}

// images returns the options for finding images: those that the user asked for, else
// those of the application, else those of the device.
func (w *Workspace) images(recorded string) (image.Options, error) {
	opts := w.Images
	if len(opts.Platforms) > 0 {
		return opts, nil
	}
	if recorded != "" {
		opts.Platforms = []string{recorded}
		return opts, nil
	}
	var err error
	opts.Platforms, err = image.ParsePlatforms(w.DockerConfig)
	return opts, err
}

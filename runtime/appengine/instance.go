package appengine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
)

// base is the control group of all instances of this machine.
const base = "pantavisor"

// patience bounds the wait for containers of a killed run to end.
const patience = 30 * time.Second

// instance is one runtime of possibly many on this machine.
type instance struct {
	run  string // PV_SYSTEM_RUNDIR
	name string
	lock *filelock.Lock
}

// record is pv.json: what an instance has outside of its directories, for whoever
// finds it dead, and for people.
type record struct {
	PID    int      `json:"pid"`
	Boot   string   `json:"boot_id"` // of the machine: a restart has removed everything
	Cgroup string   `json:"cgroup"`
	Links  []string `json:"links,omitempty"` // network links that did not exist before
	Made   bool     `json:"made"`            // the directory of the sockets did not exist before
}

// nameOf makes the name of the instance whose sockets are in a directory: readable,
// and another one for each directory.
func nameOf(run string) string {
	sum := sha256.Sum256([]byte(run))
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.Trim(strings.TrimSuffix(run, "/run/pv"), "/"))
	return strings.Trim(readable[max(0, len(readable)-40):], "-") + "-" + hex.EncodeToString(sum[:4])
}

// claim takes the instance of a run directory for this process.
func claim(run string) (*instance, error) {
	if err := os.MkdirAll(filepath.Dir(run), 0o700); err != nil { // metadata is not for the machine's users
		return nil, fmt.Errorf("making the directory of the sockets: %w", err)
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(run)); err == nil {
		run = filepath.Join(real, filepath.Base(run)) // two names of one directory are one instance
	}
	// Beside the directory, which containers may see.
	in := &instance{run: run, name: nameOf(run)}
	ctx, cancel := context.WithTimeout(context.Background(), dying)
	defer cancel()
	var err error
	in.lock, err = filelock.Acquire(ctx, run+".lock", filelock.Options{Create: 0o600})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("process %d runs already with the directory %s; PV_SYSTEM_RUNDIR or --prefix makes another instance", in.last().PID, run)
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// dying is how long a process that has been killed may take to let its files go.
const dying = time.Second

// release lets another process have the instance.
func (in *instance) release() {
	if in.lock != nil {
		in.lock.Unlock()
		in.lock = nil
	}
}

// last is what the run before has noted; empty when it has ended in order.
func (in *instance) last() record {
	var r record
	if text, err := os.ReadFile(in.run + ".json"); err == nil {
		_ = json.Unmarshal(text, &r) // a damaged one names nothing
	}
	return r
}

// prepare removes what a killed run has left, notes what this one will have, and
// returns the tree of its control groups.
func (in *instance) prepare(ctx context.Context, cfg *config.Config, stderr io.Writer) (*container.Tree, error) {
	tree, err := in.tree()
	if err != nil {
		return nil, err
	}
	old := in.last()
	if old.PID != 0 {
		_, _ = fmt.Fprintf(stderr, "pantavisor -i: process %d was killed; removing what it has left\n", old.PID)
		if err := in.sweep(ctx, tree, old); err != nil {
			return nil, err
		}
	}
	made := os.Mkdir(in.run, 0o755) == nil || old.Made
	r := record{PID: os.Getpid(), Boot: bootID(), Cgroup: tree.Path(), Made: made}
	if br := cfg.String(config.NetBrDev); br != "" && !linkExists(br) {
		r.Links = append(r.Links, br)
	}
	return tree, in.note(r)
}

// tree is where the containers' control groups go.
func (in *instance) tree() (*container.Tree, error) {
	tree, err := container.FindTree(in.run + ".cgroup")
	if err != nil {
		return nil, err
	}
	return tree.Top().Sub(base).Sub(in.name), nil
}

// note writes pv.json. It need not survive a power cut: nothing that it names does.
func (in *instance) note(r record) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = atomicfile.Replace(in.run+".json", append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("noting what has to be removed: %w", err)
	}
	return nil
}

// sweep ends what a killed run has left: its containers, and with them their mounts
// and loop devices, its control groups, links and sockets.
func (in *instance) sweep(ctx context.Context, tree *container.Tree, old record) error {
	if old.Boot != bootID() {
		return nil // of the files, sockets are replaced by those who listen
	}
	if err := in.removeGroups(ctx, tree); err != nil {
		return err
	}
	return removeLinks(old.Links)
}

// removeGroups kills whatever is in the control groups and removes them. Processes
// need a while to go when the machine is busy.
func (in *instance) removeGroups(ctx context.Context, tree *container.Tree) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := tree.Remove()
		if err == nil {
			tree.RemoveParent()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("removing control group %s: %w", tree.Path(), err)
		}
	}
}

// clear removes the last traces after an orderly end.
func (in *instance) clear(ctx context.Context, tree *container.Tree) error {
	errs := []error{in.removeGroups(context.WithoutCancel(ctx), tree), removeLinks(in.last().Links)}
	if err := errors.Join(errs...); err != nil {
		return err // pv.json stays for the next start
	}
	in.removeFiles(in.last().Made)
	if err := os.Remove(in.run + ".json"); err != nil {
		return fmt.Errorf("removing the note of what has to be removed: %w", err)
	}
	return nil
}

// removeFiles removes the directory of the sockets, which means nothing without a
// process. A directory that was there before, and whatever is mounted in it, is
// somebody else's.
func (in *instance) removeFiles(made bool) {
	if !made {
		return
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	removeUnmounted(in.run, string(mounts))
}

// removeUnmounted removes a tree but for mount points and what leads to them.
func removeUnmounted(path, mountinfo string) {
	if strings.Contains(mountinfo, " "+path+" ") {
		return
	}
	if info, err := os.Lstat(path); err == nil && info.IsDir() { // no link is followed
		entries, _ := os.ReadDir(path) // what cannot be read stays
		for _, e := range entries {
			removeUnmounted(filepath.Join(path, e.Name()), mountinfo)
		}
	}
	_ = os.Remove(path)
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

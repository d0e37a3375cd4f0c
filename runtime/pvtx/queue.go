package pvtx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/state"
)

// A queue is a directory of steps to be done later, in the order of their numbers:
//
//	000__nginx.remove               an empty file: remove a part; %2F stands for '/'
//	001__package.tgz/json           the state of a package to be added
//
// Other files in it are left alone.

// entry is a step of a queue.
type entry struct {
	number int
	name   string // the file's
	part   string // to be removed, "" for a package
}

const (
	separator   = "__"
	removeEnd   = ".remove"
	packageFile = "json"
)

// escape and unescape are for parts in names of files; '%' is escaped so that a part can
// hold it.
var (
	escape   = strings.NewReplacer("%", "%25", "/", "%2F")
	unescape = strings.NewReplacer("%25", "%", "%2F", "/")
)

func parseEntry(e fs.DirEntry) (entry, bool) {
	digits, rest, ok := strings.Cut(e.Name(), separator)
	number, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil || len(digits) < 3 || rest == "" {
		return entry{}, false
	}
	out := entry{number: int(number), name: e.Name()}
	if e.IsDir() {
		return out, true
	}
	part, ok := strings.CutSuffix(rest, removeEnd)
	out.part = unescape.Replace(part)
	return out, ok && part != ""
}

// entries returns a queue's steps in their order.
func entries(queue string) ([]entry, error) {
	files, err := os.ReadDir(queue)
	if err != nil {
		return nil, fmt.Errorf("reading the queue: %w", err)
	}
	var out []entry
	for _, f := range files {
		if e, ok := parseEntry(f); ok {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int { return cmp.Compare(a.number, b.number) })
	return out, nil
}

// NewQueue makes an empty queue in a directory, which loses the steps that it had, and
// configures it together with a directory for objects. An active transaction is an error.
func (t *Transaction) NewQueue(queue, objectsDir string) error {
	return t.change(func(r record) error {
		if r.phase == phaseActive {
			return ErrActive
		}
		abs, err := filepath.Abs(queue)
		if err != nil {
			return err
		}
		next := record{phase: phaseQueue, queue: abs}
		if err := next.place(objectsDir); err != nil {
			return err
		}
		if err := os.MkdirAll(abs, 0o755); err != nil {
			return err
		}
		if err := empty(abs); err != nil {
			return err
		}
		if err := t.clear(phaseNone); err != nil {
			return err
		}
		return next.store(t.opt.Dir)
	})
}

// empty removes a queue's steps.
func empty(queue string) error {
	old, err := entries(queue)
	if err != nil {
		return err
	}
	for _, e := range old {
		if err := os.RemoveAll(filepath.Join(queue, e.name)); err != nil {
			return err
		}
	}
	return nil
}

// enqueue adds a step, which write makes at a path, to the configured queue.
func (t *Transaction) enqueue(what string, write func(r record, path string) error) error {
	return t.change(func(r record) error {
		if r.queue == "" {
			return errNoQueue
		}
		old, err := entries(r.queue)
		if err != nil {
			return err
		}
		if n := len(old); n > 0 { // also when a power cut came before the record was stored
			r.count = max(r.count, int32(old[n-1].number)+1)
		}
		name := fmt.Sprintf("%03d%s%s", r.count, separator, what)
		if len(name) > state.MaxElement {
			return fmt.Errorf("%.80q…: too long for the name of a file", name)
		}
		if err := write(r, filepath.Join(r.queue, name)); err != nil {
			return err
		}
		if err := atomicfile.SyncDir(r.queue); err != nil {
			return err
		}
		r.count++
		return r.store(t.opt.Dir)
	})
}

// QueueRemove adds the removal of a part to the queue.
func (t *Transaction) QueueRemove(part string) error {
	if part == "" {
		return errors.New("the part's name is empty")
	}
	return t.enqueue(escape.Replace(part)+removeEnd, func(_ record, path string) error {
		return atomicfile.Write(path, nil, 0o644)
	})
}

// QueueUnpack stores the objects of a package, see [Transaction.Add], and adds its state to
// the queue under the file's name; an empty one is "package".
func (t *Transaction) QueueUnpack(ctx context.Context, name string, r io.Reader) error {
	if name = filepath.Base(name); name == "." || name == "/" {
		name = "package"
	}
	return t.enqueue(name, func(rec record, path string) error {
		st, err := t.unpack(ctx, rec, r)
		if err != nil {
			return err
		}
		return writePackage(path, st)
	})
}

// writePackage makes the directory of a step, whole or not at all.
func writePackage(path string, st *state.State) error {
	doc, err := st.Document()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(tmp, packageFile), doc, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Process describes the processing of a queue.
type Process struct {
	// Base begins a transaction, see [Begin], which discards an active one; empty goes on
	// with the active one.
	Base string
	// Queue is the queue's directory; empty for the configured one.
	Queue string
	// Objects is the directory of the objects for the transaction that Base begins; empty
	// for the one of the configured queue.
	Objects string
}

// QueueProcess does the steps of a queue, all or none of them; when one fails, the
// transaction is as before. The queue stays as it is.
func (t *Transaction) QueueProcess(ctx context.Context, p Process) error {
	return t.change(func(r record) error {
		queue := r.queue
		if p.Queue != "" {
			queue = p.Queue
		}
		switch {
		case p.Base == "" && r.phase != phaseActive:
			return ErrNone
		case queue == "":
			return errNoQueue
		case p.Base == "":
			st, err := t.read(fileState)
			if err != nil {
				return err
			}
			if st, err = replay(queue, st); err != nil {
				return err
			}
			t.hold(ctx, r, st)
			return t.save(fileState, st)
		}
		next, base, err := t.prepare(ctx, r, Begin{Base: p.Base, Objects: p.Objects, Replace: true})
		if err != nil {
			return err
		}
		st, err := replay(queue, base)
		if err != nil {
			return err
		}
		return t.start(ctx, r, next, base, st)
	})
}

// replay returns the state after all steps of a queue.
func replay(queue string, st *state.State) (*state.State, error) {
	steps, err := entries(queue)
	if err != nil {
		return nil, err
	}
	for _, e := range steps {
		if st, err = e.apply(queue, st); err != nil {
			return nil, fmt.Errorf("processing %s: %w", e.name, err)
		}
	}
	return st, nil
}

// apply returns the state after a step.
func (e entry) apply(queue string, st *state.State) (*state.State, error) {
	if e.part != "" {
		return state.RemovePackage(st, e.part), nil
	}
	add, err := readState(filepath.Join(queue, e.name, packageFile))
	if err != nil {
		return nil, err
	}
	return state.AddPackage(st, add)
}

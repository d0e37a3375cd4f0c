// Package pvtx changes the software of a device (manual: pvtx). A transaction begins with
// the state of a revision, adds packages to it and removes others, and ends as a new
// revision of the device, or as a directory for a device's storage.
//
// A transaction lives in a directory, so that each step may be a process of its own; the
// layout of the directory is that of earlier versions:
//
//	.status        where the transaction is
//	current.json   the state being edited
//	base.json      the state that a local transaction began with
//
// Objects are not in it: they go to the device's store when they are added, which holds them
// until the transaction ends, or to the directory that a local transaction names.
package pvtx

import (
	"bufio"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/archive/unpack"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// The errors that say what a transaction is not ready for.
var (
	ErrNone     = errors.New("no active transaction; pvtx begin starts one")
	ErrActive   = errors.New("a transaction is active; commit, deploy or abort it first")
	ErrBusy     = errors.New("another process is changing the transaction")
	ErrLocal    = errors.New("the transaction is local: its objects are not on the device; pvtx deploy writes it to a directory")
	ErrNotLocal = errors.New("the objects of the transaction are on the device and not in a directory; pvtx commit makes a revision of it")
	errNoQueue  = errors.New("no queue; pvtx queue new makes one")
)

// Current and Empty are the bases of a transaction that are not files or revisions.
const (
	Current = "current" // the running revision
	Empty   = "empty"
)

// Options describe where a transaction is.
type Options struct {
	// Dir has the transaction's files; it is made when something begins.
	Dir string
	// Device is the client of the device's control socket; local transactions on
	// other bases than revisions need none.
	Device *client.Client
	// Buffer is how many bytes of a package are read at once; 0 for 64 KiB.
	Buffer int
	// Warn is called with what is wrong and not an error. May be nil.
	Warn func(text string)
}

// Transaction is a transaction in a directory. Methods that change it exclude each other,
// also those of other processes: they return [ErrBusy]. The others never wait.
type Transaction struct {
	opt Options
}

// New returns the transaction in a directory, begun or not.
func New(opt Options) *Transaction {
	if opt.Warn == nil {
		opt.Warn = func(string) {}
	}
	return &Transaction{opt}
}

func (t *Transaction) path(name string) string { return filepath.Join(t.opt.Dir, name) }

// change runs fn with the directory locked and with its record.
func (t *Transaction) change(fn func(record) error) error {
	if err := os.MkdirAll(t.opt.Dir, 0o700); err != nil {
		return fmt.Errorf("making the transaction's directory: %w", err)
	}
	l, err := filelock.Try(t.opt.Dir, filelock.Options{})
	if errors.Is(err, filelock.ErrHeld) {
		return fmt.Errorf("%w in %s", ErrBusy, t.opt.Dir)
	}
	if err != nil {
		return err
	}
	defer l.Unlock()
	r, err := load(t.opt.Dir)
	if err != nil {
		return err
	}
	return fn(r)
}

// edit is change for an active transaction, whose state fn may replace by what it returns.
func (t *Transaction) edit(fn func(record, *state.State) (*state.State, error)) error {
	return t.change(func(r record) error {
		if r.phase != phaseActive {
			return ErrNone
		}
		st, err := t.read(fileState)
		if err != nil {
			return err
		}
		next, err := fn(r, st)
		if err != nil {
			return err
		}
		return t.save(fileState, next)
	})
}

func (t *Transaction) read(name string) (*state.State, error) { return readState(t.path(name)) }

func readState(path string) (*state.State, error) {
	doc, err := bounded.ReadFile(path, canon.MaxSize)
	if err != nil {
		return nil, err
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return st, nil
}

func (t *Transaction) save(name string, st *state.State) error {
	doc, err := st.Document()
	if err != nil {
		return err
	}
	return atomicfile.Write(t.path(name), doc, 0o600)
}

// Begin describes how a transaction begins.
type Begin struct {
	// Base is the state to begin with: [Current], the default; [Empty]; a file with a
	// state; a directory with the file json or .pvr/json; or the name of a revision.
	Base string
	// Objects makes the transaction local: the directory for its objects, which is made
	// when it is missing.
	Objects string
	// Replace discards an active transaction, which is an error otherwise.
	Replace bool
}

// Begin starts a transaction. A queue that is configured is kept, and so is its directory
// of objects when b names none.
func (t *Transaction) Begin(ctx context.Context, b Begin) error {
	return t.change(func(r record) error {
		next, base, err := t.prepare(ctx, r, b)
		if err != nil {
			return err
		}
		return t.start(ctx, r, next, base, base)
	})
}

// prepare returns the record and the base of a transaction that can begin.
func (t *Transaction) prepare(ctx context.Context, old record, b Begin) (next record, base *state.State, err error) {
	if old.phase == phaseActive && !b.Replace {
		return record{}, nil, ErrActive
	}
	next = record{phase: phaseActive}
	if old.phase == phaseQueue {
		next.objects, next.queue, next.count = old.objects, old.queue, old.count
	}
	if err := next.place(b.Objects); err != nil {
		return record{}, nil, err
	}
	base, err = t.base(ctx, b.Base)
	if err != nil {
		return record{}, nil, fmt.Errorf("reading the base: %w", err)
	}
	if base.Spec() == "" {
		err = base.SetValue(state.SpecKey, canon.Str(state.Spec))
	}
	return next, base, err
}

// start stores a transaction whose state has gone from base to st already.
func (t *Transaction) start(ctx context.Context, old, next record, base, st *state.State) error {
	if old.phase != phaseQueue {
		// What happens until the next record is stored leaves no transaction.
		if err := t.clear(phaseNone); err != nil {
			return err
		}
	}
	if next.local() {
		if err := t.save(fileBase, base); err != nil {
			return err
		}
	}
	t.hold(ctx, next, st)
	if err := t.save(fileState, st); err != nil {
		return err
	}
	return next.store(t.opt.Dir)
}

// held is the device's name for what this transaction holds.
func (t *Transaction) held() string {
	sum := sha256.Sum256([]byte(t.opt.Dir))
	return "pvtx-" + hex.EncodeToString(sum[:8])
}

// hold asks the device to keep the objects of the transaction's state until the end of the
// transaction. That it does not is a warning; an earlier runtime cannot, and a device that does
// not answer has got no objects.
func (t *Transaction) hold(ctx context.Context, r record, st *state.State) {
	if r.local() || t.opt.Device == nil || len(st.Sums()) == 0 {
		return
	}
	doc, err := st.Document()
	if err == nil {
		err = t.opt.Device.Hold(ctx, t.held(), doc)
	}
	if bad := (*client.Refused)(nil); errors.As(err, &bad) && bad.Status != 400 {
		t.opt.Warn("the device may collect objects of the transaction as garbage: " + bad.Text())
	}
}

// release ends that. What is left of it ends by itself.
func (t *Transaction) release(ctx context.Context, r record) {
	if !r.local() && t.opt.Device != nil {
		_ = t.opt.Device.Release(ctx, t.held())
	}
}

// place makes the record one of a local transaction, unless dir is empty.
func (r *record) place(dir string) error {
	if dir == "" {
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	r.objects = abs
	_, err = objects.Create(abs)
	return err
}

func (t *Transaction) base(ctx context.Context, base string) (*state.State, error) {
	switch base {
	case "", Current:
		return t.revision(ctx, Current)
	case Empty:
		return state.New(state.Spec), nil
	}
	info, err := os.Stat(base)
	switch {
	case err == nil && info.IsDir():
		st, err := readState(filepath.Join(base, "json"))
		if errors.Is(err, fs.ErrNotExist) {
			return readState(filepath.Join(base, ".pvr", "json"))
		}
		return st, err
	case err == nil:
		return readState(base)
	case !errors.Is(err, fs.ErrNotExist) || !step.Valid(base):
		return nil, err
	}
	return t.revision(ctx, base)
}

// revision returns the state of a revision of the device.
func (t *Transaction) revision(ctx context.Context, rev string) (*state.State, error) {
	if t.opt.Device == nil {
		return nil, errNoDevice
	}
	doc, err := t.opt.Device.Text(ctx, "/steps/"+rev)
	if err != nil {
		return nil, fmt.Errorf("asking for revision %s: %w", rev, err)
	}
	return state.Parse(doc)
}

var errNoDevice = errors.New("no control socket")

// clear discards the state and stores a record that says why.
func (t *Transaction) clear(why phase) error {
	if err := (record{phase: why}).store(t.opt.Dir); err != nil {
		return err
	}
	for _, name := range []string{fileState, fileBase} {
		if err := os.Remove(t.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Add adds a package: an export or a state alone, see [unpack.Any]. It replaces what the
// package's signature covered before, see [state.AddPackage]. On an error the transaction
// is as before; the device may have got some of the objects.
func (t *Transaction) Add(ctx context.Context, r io.Reader) error {
	return t.edit(func(rec record, st *state.State) (*state.State, error) {
		add, err := t.unpack(ctx, rec, r)
		if err != nil {
			return nil, err
		}
		next, err := state.AddPackage(st, add)
		if err == nil {
			t.hold(ctx, rec, next)
		}
		return next, err
	})
}

// unpack stores the objects of a package and returns its state.
func (t *Transaction) unpack(ctx context.Context, rec record, r io.Reader) (*state.State, error) {
	if t.opt.Buffer > 0 {
		r = bufio.NewReaderSize(r, t.opt.Buffer)
	}
	if !rec.local() {
		put := func(io.Reader, string, int64) error { return errNoDevice }
		if t.opt.Device != nil {
			put = t.opt.Device.Upload(ctx)
		}
		return unpack.Any(ctx, r, unpack.Options{Named: true, Put: put, Bzip2: bzip2.NewReader})
	}
	store, err := objects.Create(rec.objects)
	if err != nil {
		return nil, err
	}
	batch := store.Batch()
	defer batch.Abort()
	st, err := unpack.Any(ctx, r, unpack.Options{Named: true, Bzip2: bzip2.NewReader, Put: func(r io.Reader, sum string, _ int64) error {
		_, err := batch.Put(ctx, r, sum)
		return err
	}})
	if err != nil {
		return nil, err
	}
	return st, batch.Commit()
}

// Remove removes a package, see [state.RemovePackage], and returns the keys that are gone.
func (t *Transaction) Remove(part string) (gone []string, err error) {
	if part == "" {
		return nil, errors.New("the part's name is empty")
	}
	err = t.edit(func(_ record, st *state.State) (*state.State, error) {
		next := state.RemovePackage(st, part)
		for _, c := range state.Changes(st, next) {
			gone = append(gone, c.Key)
		}
		return next, nil
	})
	return gone, err
}

// Show returns the document of the active transaction, or of the one that was deployed.
func (t *Transaction) Show() ([]byte, error) {
	r, err := load(t.opt.Dir)
	if err != nil {
		return nil, err
	}
	if r.phase != phaseActive && r.phase != phaseDeployed {
		return nil, ErrNone
	}
	return bounded.ReadFile(t.path(fileState), canon.MaxSize)
}

// Abort discards the transaction and its queue's configuration. It is no error when there
// is none. A record that cannot be read is discarded, too.
func (t *Transaction) Abort(ctx context.Context) error {
	if _, err := os.Lstat(t.opt.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l, err := filelock.Try(t.opt.Dir, filelock.Options{})
	if errors.Is(err, filelock.ErrHeld) {
		return fmt.Errorf("%w in %s", ErrBusy, t.opt.Dir)
	}
	if err != nil {
		return err
	}
	defer l.Unlock()
	if r, err := load(t.opt.Dir); err == nil && r.phase == phaseActive {
		t.release(ctx, r)
	}
	return t.clear(phaseAborted)
}

// maxLocalName bounds the part of a revision's name behind "locals/", in bytes.
const maxLocalName = 64

// checkName validates the name of a new revision: locals/NAME.
func checkName(rev string) error {
	name, ok := strings.CutPrefix(rev, step.Locals+"/")
	switch {
	case !ok || !step.Valid(rev):
		return fmt.Errorf("revision name %.80q: locals/NAME is expected", rev)
	case len(name) > maxLocalName:
		return fmt.Errorf("revision name %.80q: more than %d bytes behind locals/", rev, maxLocalName)
	}
	return nil
}

// newName returns a name for a state that no other commit gives, also within a second.
func newName(doc []byte) string {
	sum := sha256.Sum256(doc)
	return fmt.Sprintf("%s/pvtx-%d-%s-%d", step.Locals, time.Now().Unix(), hex.EncodeToString(sum[:4]), rand.IntN(1000))
}

// Commit describes the revision that a transaction becomes.
type Commit struct {
	// Revision is its name: locals/NAME with at most 64 bytes in NAME; empty for a new one.
	Revision string
	// Message describes it; empty for none.
	Message string
}

// Commit stores the state as a revision of the device, ends the transaction and returns
// the revision's name.
func (t *Transaction) Commit(ctx context.Context, c Commit) (string, error) {
	err := t.change(func(r record) error {
		doc, err := t.ready(r)
		if err != nil {
			return err
		}
		if c.Revision == "" {
			c.Revision = newName(doc)
		}
		if err := checkName(c.Revision); err != nil {
			return err
		}
		if err := t.store(ctx, c, doc); err != nil {
			return err
		}
		t.release(ctx, r)
		return t.clear(phaseCommitted)
	})
	if err != nil {
		return "", err
	}
	return c.Revision, nil
}

// store sends a revision to the device. That its message is not stored is a warning.
func (t *Transaction) store(ctx context.Context, c Commit, doc []byte) error {
	if t.opt.Device == nil {
		return errNoDevice
	}
	path := "/steps/" + c.Revision
	if err := t.opt.Device.Send(ctx, client.WithBody("PUT", path, string(doc))); err != nil {
		return fmt.Errorf("storing revision %s: %w", c.Revision, err)
	}
	if c.Message == "" {
		return nil
	}
	if err := t.opt.Device.Send(ctx, client.WithBody("PUT", path+"/commitmsg", c.Message)); err != nil {
		t.opt.Warn("describing the revision: " + err.Error())
	}
	return nil
}

// ready returns the document of a transaction that can be committed.
func (t *Transaction) ready(r record) ([]byte, error) {
	switch {
	case r.phase != phaseActive:
		return nil, ErrNone
	case r.local():
		return nil, ErrLocal
	}
	st, err := t.read(fileState)
	if err != nil {
		return nil, err
	}
	return st.Document()
}

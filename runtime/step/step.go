// Package step is the store of revisions on the device; only it changes their files
// (manual: Storage). A revision is a directory below <storage>/trails, called NAME, or
// locals/NAME when it did not come from a hub:
//
//	<path>          the files of the state, objects as links into <storage>/objects
//	                (package revision/trail lays them out, [Files] mends them)
//	.pvr/json       the state, byte for byte as it was received
//	.pv/progress    the progress of its update, a [Progress] as JSON
//	.pv/done        empty; exists once the revision has been committed
//	.pv/commitmsg   the commit message
//
// Names that begin with a dot are not revisions: .put-* is one that is being stored,
// .trash-* one that is being removed; [Garbage] removes those that a power cut left.
// trails/current is a link to the running revision.
//
// Every write is durable and atomic: after a power cut a file has its old content or
// the new, and a revision is listed completely or not at all.
package step

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// current is another name for the running revision, a symbolic link.
const current = "current"

// Locals is the directory of the revisions that did not come from a hub, below trails.
const Locals = "locals"

// maxNote bounds the files of a revision that are not its state, in bytes.
const maxNote = 1 << 20

const (
	fileState    = ".pvr/json"
	fileProgress = ".pv/progress"
	fileDone     = ".pv/done"
	fileMessage  = ".pv/commitmsg"
	partPrefix   = ".put-"
	dirMode      = 0o755
	fileMode     = 0o644
)

// Progress is the content of .pv/progress, the fields in the order that hubs and
// existing tools write.
type Progress struct {
	Status  string `json:"status"` // "NEW", "DONE", ... (manual: Updates, status)
	Message string `json:"status-msg"`
	Percent int    `json:"progress"`
	Retries int    `json:"retries"`
	// Logs has the last messages about a failure, each a line of JSON.
	Logs string `json:"logs,omitempty"`
}

// firstProgress is the progress of a revision that has been stored but never run.
var firstProgress = Progress{Status: "NEW", Message: "Update ready to be run"}

// ErrName is the error for a name that is not [Valid].
var ErrName = errors.New("not a valid revision name")

// ErrInUse is the error for a revision that must not be replaced now.
var ErrInUse = errors.New("the revision is in use")

// Store is the store of revisions. Its methods may be called at the same time.
type Store struct {
	trails string
	mu     sync.Mutex   // held while files are written
	refs   sync.RWMutex // held while garbage is removed; before mu
	recent recent
}

// Open returns the store below the directory storage. It creates nothing.
func Open(storage string) *Store { return &Store{trails: filepath.Join(storage, "trails")} }

// Valid reports whether rev is NAME or locals/NAME with a NAME that is a valid file name
// and does not begin with a dot. Names of new revisions must pass boot.Validate as well.
func Valid(rev string) bool {
	name, local := strings.CutPrefix(rev, Locals+"/")
	if name == "" || name[0] == '.' || len(name) > 255 || !utf8.ValidString(name) || !local && name == Locals {
		return false
	}
	return strings.IndexFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f || c == '/' }) < 0
}

// Dir returns the directory of a revision, which need not exist; for an empty name the
// directory of all revisions. The caller must have checked the name.
func (s *Store) Dir(rev string) string { return filepath.Join(s.trails, rev) }

// file returns the path of a file of a revision.
func (s *Store) file(rev, name string) (string, error) {
	if !Valid(rev) {
		return "", fmt.Errorf("revision %q: %w", rev, ErrName)
	}
	return filepath.Join(s.trails, rev, name), nil
}

// List returns the names of all revisions, sorted as text, local ones last.
func (s *Store) List() ([]string, error) {
	var list []string
	for _, sub := range []string{"", Locals} {
		entries, err := s.entries(sub)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if rev := filepath.Join(sub, e.Name()); e.IsDir() && Valid(rev) {
				list = append(list, rev)
			}
		}
	}
	return list, nil
}

func (s *Store) entries(sub string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(filepath.Join(s.trails, sub))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the revisions: %w", err)
	}
	return entries, nil
}

// Has reports whether the revision exists.
func (s *Store) Has(rev string) bool {
	path, err := s.file(rev, "")
	if err != nil {
		return false
	}
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// Changed returns the modification time of the revision's directory, the zero time when
// there is none.
func (s *Store) Changed(rev string) time.Time {
	if st, err := os.Stat(s.Dir(rev)); err == nil {
		return st.ModTime()
	}
	return time.Time{}
}

// State returns the state of a revision, of [canon.MaxSize] bytes at most;
// fs.ErrNotExist when there is no such revision.
func (s *Store) State(rev string) ([]byte, error) { return s.read(rev, fileState, canon.MaxSize) }

// OpenState opens the file of a revision's state; fs.ErrNotExist when there is no such
// revision.
func (s *Store) OpenState(rev string) (*os.File, error) {
	path, err := s.file(rev, fileState)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// ProgressText returns the progress of a revision as it was written, fs.ErrNotExist
// when there is none.
func (s *Store) ProgressText(rev string) ([]byte, error) { return s.read(rev, fileProgress, maxNote) }

// Progress returns the progress of a revision, fs.ErrNotExist when there is none.
func (s *Store) Progress(rev string) (p Progress, err error) {
	text, err := s.ProgressText(rev)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("reading the progress of revision %s: %w", rev, err)
	}
	return p, nil
}

// CommitMsg returns the commit message of a revision, fs.ErrNotExist when there is none.
func (s *Store) CommitMsg(rev string) ([]byte, error) { return s.read(rev, fileMessage, maxNote) }

// Done reports whether the revision is marked as committed.
func (s *Store) Done(rev string) bool {
	path, err := s.file(rev, fileDone)
	if err == nil {
		_, err = os.Stat(path)
	}
	return err == nil
}

func (s *Store) read(rev, name string, limit int64) ([]byte, error) {
	path, err := s.file(rev, name)
	if err != nil {
		return nil, err
	}
	b, err := bounded.ReadFile(path, limit)
	if err != nil {
		return nil, fmt.Errorf("reading revision %s: %w", rev, err)
	}
	return b, nil
}

// Put stores the state of a revision and sets its progress to [firstProgress]. If the revision
// exists, both are replaced, the progress first, so that every stored state is ready to
// run. A new revision is made under a hidden name and then renamed. The other files of
// the state are not laid out.
func (s *Store) Put(rev string, state []byte) error {
	return s.Replace(rev, state, func(string) bool { return false })
}

// Replace is [Store.Put], but for a revision that inUse reports to be in use: then the error
// is [ErrInUse]. The question and the writing are one for [Store.Settle].
func (s *Store) Replace(rev string, state []byte, inUse func(rev string) bool) error {
	final, err := s.file(rev, "")
	if err != nil {
		return err
	}
	s.recent.add(rev)
	s.mu.Lock()
	defer s.mu.Unlock()
	if inUse(rev) {
		return fmt.Errorf("storing revision %s: %w", rev, ErrInUse)
	}
	if _, err = os.Stat(final); err == nil {
		err = refill(final, state)
	} else {
		err = create(final, state)
	}
	if err != nil {
		return fmt.Errorf("storing revision %s: %w", rev, err)
	}
	return nil
}

// Settle returns when every write that has begun has ended. After it no write is in progress
// that found a revision free which the caller has since taken into use.
func (s *Store) Settle() {
	s.mu.Lock()
	s.mu.Unlock() //nolint:staticcheck // only what went before counts
}

// create makes a new revision.
func create(final string, state []byte) error {
	parent := filepath.Dir(final)
	if err := os.MkdirAll(parent, dirMode); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, partPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, dirMode); err != nil {
		return err
	}
	progress, err := json.Marshal(firstProgress)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{fileProgress: progress, fileState: state} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(filepath.Dir(path), dirMode); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, fileMode); err != nil {
			return err
		}
	}
	// Nobody looks at it yet: one sync for all spares flash memory many transactions.
	return atomicfile.NameTree(dir, parent, func() error { return os.Rename(dir, final) })
}

// refill replaces the state of a revision. That another state of this name was committed
// says nothing about this one.
func refill(dir string, state []byte) error {
	old, err := bounded.ReadFile(filepath.Join(dir, fileState), canon.MaxSize)
	if err != nil || !bytes.Equal(old, state) {
		err := os.Remove(filepath.Join(dir, fileDone))
		if err == nil {
			err = atomicfile.SyncDir(filepath.Join(dir, filepath.Dir(fileDone)))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fill(dir, state)
}

// fill writes the files of a revision that is ready to run.
func fill(dir string, state []byte) error {
	if err := writeJSON(filepath.Join(dir, fileProgress), firstProgress); err != nil {
		return err
	}
	if err := write(filepath.Join(dir, fileState), state); err != nil {
		return err
	}
	return atomicfile.SyncDir(dir)
}

// SetCommitMsg stores the commit message of a revision that exists.
func (s *Store) SetCommitMsg(rev string, message []byte) error {
	return s.change(rev, func(dir string) error { return write(filepath.Join(dir, fileMessage), message) })
}

// SetProgress stores the progress of a revision that exists. On a full storage it is written
// over the one before, without Logs: a power cut at that moment leaves a file that cannot be
// read.
func (s *Store) SetProgress(rev string, p Progress) error {
	return s.change(rev, func(dir string) error {
		path := filepath.Join(dir, fileProgress)
		err := writeJSON(path, p)
		if full(err) {
			err = overwrite(path, p)
		}
		return err
	})
}

// full reports whether an error is one of a storage without space.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// overwrite writes a progress into the blocks that its file has.
func overwrite(path string, p Progress) (err error) {
	p.Logs = ""
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(len(text))), f.Sync())
}

// ShowProgress is [Store.SetProgress] for a progress that need not survive a power cut, which may
// leave the one before or a file that cannot be read. It spares flash memory a dozen writes.
func (s *Store) ShowProgress(rev string, p Progress) error {
	return s.change(rev, func(dir string) error {
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		return atomicfile.Replace(filepath.Join(dir, fileProgress), text, fileMode)
	})
}

// MarkDone stores a revision's last progress and then marks it as committed, unless it
// is marked already. A power cut between the two leaves it unmarked.
func (s *Store) MarkDone(rev string, p Progress) error {
	if s.Done(rev) {
		return nil
	}
	if err := s.SetProgress(rev, p); err != nil {
		return err
	}
	return s.change(rev, func(dir string) error { return write(filepath.Join(dir, fileDone), nil) })
}

// change calls write with the directory of a revision; fs.ErrNotExist when there is none.
func (s *Store) change(rev string, write func(dir string) error) error {
	dir, err := s.file(rev, "")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err = os.Stat(dir); err == nil {
		err = write(dir)
	}
	if err != nil {
		return fmt.Errorf("changing revision %s: %w", rev, err)
	}
	return nil
}

// SetCurrent points trails/current to a revision.
func (s *Store) SetCurrent(rev string) error {
	if !Valid(rev) || rev == current {
		return fmt.Errorf("revision %q: %w", rev, ErrName)
	}
	return atomicfile.Symlink(rev, filepath.Join(s.trails, current))
}

// Running returns the revision that trails/current points to, "" when there is none.
func (s *Store) Running() string {
	rev, err := os.Readlink(filepath.Join(s.trails, current))
	if err != nil {
		return ""
	}
	return rev
}

func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return write(path, text)
}

// write durably replaces a file below .pv or .pvr, and removes what writes of it left that
// were cut off.
func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	atomicfile.SweepOf(path)
	return atomicfile.Write(path, data, fileMode)
}

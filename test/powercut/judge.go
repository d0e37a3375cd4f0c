package powercut

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/updater"
)

// known is what the device has told until the power was cut.
type known struct {
	done   string // the newest revision that is DONE
	asked  string // the newest for which an update was asked; "" when that has ended
	once   string // the newest that is only tried: it stays UPDATED, and does not run any more
	failed []string
	told   []seen
}

// learn takes a mark.
func (k *known) learn(s seen) {
	if s.Status != askedOnce {
		k.told = append(k.told, s)
	}
	switch s.Status {
	case askedOnce:
		k.once = s.Revision
	case "":
		k.asked = s.Revision
	case "DONE":
		k.done, k.asked = s.Revision, ""
	case "ERROR", "WONTGO":
		k.failed, k.asked = append(k.failed, s.Revision), ""
	}
}

// said reports whether the device has told a status of a revision.
func (k *known) said(rev, status string) bool { return slices.Contains(k.told, seen{rev, status}) }

// judge decides whether a device whose disk has a certain content when its power comes back
// is what it must be.
type judge struct {
	loader  loader
	storage int64 // where the storage begins
	size    int64 // of the disk
	dir     *scratch.Dir
	good    map[string]bool   // verdicts: what was read, and found right
	sums    map[string]string // digests of files, by their blocks and their versions
	judged  int
}

// part is the storage of a disk.
type part struct {
	*disk
	at int64
}

// ReadAt implements io.ReaderAt.
func (p part) ReadAt(b []byte, off int64) (int, error) { return p.disk.ReadAt(b, p.at+off) }

// WriteAt implements io.WriterAt.
func (p part) WriteAt(b []byte, off int64) (int, error) { return p.disk.WriteAt(b, p.at+off) }

// check returns what the loader starts from a disk, and what is wrong with that.
func (j *judge) check(d *disk, k *known) (start, error) {
	j.judged++
	v, err := newView(d, j.storage, j.size)
	if err != nil {
		return start{}, fmt.Errorf("brick: %w", err)
	}
	s, err := j.loader.pick(v)
	if err != nil {
		return s, fmt.Errorf("brick: %w", err)
	}
	if err := j.bootFiles(v, s); err != nil {
		return s, fmt.Errorf("brick: %w", err)
	}
	if s.rev != k.done && s.rev != k.asked {
		return s, fmt.Errorf("lost: the loader starts revision %s; the last one that is DONE is %s, and %q was asked for", s.rev, k.done, k.asked)
	}
	if slices.Contains(k.failed, s.rev) {
		return s, fmt.Errorf("wrong: the loader starts revision %s, which has failed", s.rev)
	}
	return s, j.resume(v, s, k)
}

// bootFiles compares what the loader and the kernel read of a revision with what its state says.
func (j *judge) bootFiles(v *view, s start) error {
	st, err := v.state(s.rev)
	if err != nil {
		return err
	}
	if err := j.loader.whole(j, v, s, st); err != nil {
		return err
	}
	for _, o := range st.Objects() {
		for _, path := range []string{"objects/" + o.Sum, "trails/" + s.rev + "/" + o.Path} {
			if err := j.whole(v.mounted, v.after, path, o.Sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// whole checks the digest of a file.
func (j *judge) whole(p part, f *ext4, path, want string) error {
	in, err := f.find(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	list, err := f.extents(in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var key strings.Builder
	fmt.Fprint(&key, in.size)
	for _, x := range list {
		newest := uint64(0)
		for n := range x.length {
			newest = max(newest, p.version((p.at+(x.start+n)*f.size)/block))
		}
		fmt.Fprint(&key, " ", x, newest)
	}
	got, ok := j.sums[key.String()]
	if !ok {
		h := sha256.New()
		if err := f.copy(h, in); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		got = hex.EncodeToString(h.Sum(nil))
		j.sums[key.String()] = got
	}
	if got != want {
		return fmt.Errorf("%s has the content of %.12s and not of %.12s", path, got, want)
	}
	return nil
}

// files are what decides what the runtime does, by their paths.
type files map[string]string

// runtimeFiles reads them.
func runtimeFiles(f *ext4) (files, error) {
	out := files{}
	for _, path := range []string{"updates/journal", "boot/grubenv", "boot/uboot.txt", "boot/efiab.txt", "boot/rpiab.txt"} {
		if err := out.read(f, path); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{"trails", "trails/locals"} {
		in, err := f.find(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list, err := f.list(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		for _, e := range list {
			if strings.HasPrefix(e.name, ".") || e.name == "locals" || e.name == "current" {
				continue
			}
			for _, name := range []string{".pvr/json", ".pv/progress", ".pv/done"} {
				if err := out.read(f, dir+"/"+e.name+"/"+name); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

func (l files) read(f *ext4, path string) error {
	data, err := f.file(path, 4<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	l[path] = string(data)
	return nil
}

// write makes a directory with the files and nothing else.
func (l files) write(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for path, data := range l {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// key is a digest of the files.
func (l files) key() string {
	h := sha256.New()
	paths := make([]string, 0, len(l))
	for p := range l {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		fmt.Fprintf(h, "%q %q\n", p, l[p])
	}
	return string(h.Sum(nil))
}

// resume has the runtime's own code read the storage as at the next boot, and looks at what it
// makes of it.
func (j *judge) resume(v *view, s start, k *known) error {
	list, err := runtimeFiles(v.after)
	if err != nil {
		return fmt.Errorf("brick: after the mount: %w", err)
	}
	key := fmt.Sprint(s, *k, list.key())
	if j.good[key] {
		return nil
	}
	if err := list.write(j.dir.Path); err != nil {
		return err
	}
	if err := j.verdict(v, s, k); err != nil {
		return fmt.Errorf("wrong: %w", err)
	}
	j.good[key] = true
	return nil
}

// store is the loader's store as it was read; what the updater does to it stays in memory.
type store struct{ boot.Values }

func (s *store) Load() (boot.Values, error) { return s.Values, nil }
func (s *store) SetTry(rev string) error    { s.Try = rev; return nil }
func (s *store) Commit(rev string) error    { s.Rev, s.Try = rev, ""; return nil }
func (s *store) ClearTry() error            { s.Try = ""; return nil }

// verdict runs what runs first at a boot of revision rev, and checks what it has then reported.
func (j *judge) verdict(v *view, s start, k *known) error {
	rev := s.rev
	values, err := j.loader.values(v, s, j.dir.Path)
	if err != nil {
		return err
	}
	if values.Rev == "" {
		values.Rev = boot.Factory
	}
	journal, err := updater.OpenJournal(j.dir.Path)
	if err != nil {
		return err
	}
	if err := k.remembered(journal); err != nil {
		return err
	}
	steps := step.Open(j.dir.Path)
	st := &store{values}
	running := boot.Decide(rev, values)
	said := fmt.Sprintf("%+v", running)
	options := updater.Options{
		Running: running, Store: st, Steps: steps, Journal: journal, Settings: func() updater.Settings { return updater.Settings{} },
	}
	if !updater.New(options).Resume() {
		if rev == st.Rev || !j.loader.there(v, st.Rev) {
			return fmt.Errorf("after a boot of revision %s (%s): the device restarts, and will again", rev, said)
		}
		rev = st.Rev // the loader sees now what the mount has brought to its place
		options.Running = boot.Decide(rev, st.Values)
		said += fmt.Sprintf(", then %+v", options.Running)
		if !updater.New(options).Resume() {
			return fmt.Errorf("revision %s must not run (%s)", rev, said)
		}
	}
	c := &checked{rev: rev, k: k, journal: journal, steps: steps, store: st}
	if err := c.all(); err != nil {
		return fmt.Errorf("after a boot of revision %s (%s): %w", rev, said, err)
	}
	return nil
}

// remembered checks that all that the device has told is in its journal.
func (k *known) remembered(journal *updater.Journal) error {
	records := journal.Records()
	for _, s := range k.told {
		if s.Status != "" && s.Revision != boot.Factory && !slices.ContainsFunc(records, func(r updater.Record) bool {
			return r.Revision == s.Revision && string(r.Status) == s.Status
		}) {
			return fmt.Errorf("revision %s was %s, and the journal does not have it", s.Revision, s.Status)
		}
	}
	return nil
}

// checked is a device that has found out where it is.
type checked struct {
	rev     string
	k       *known
	journal *updater.Journal
	steps   *step.Store
	store   *store
}

func (c *checked) all() error {
	revs, err := c.steps.List()
	if err != nil {
		return err
	}
	if !slices.Contains(revs, c.rev) {
		return errors.New("it is not in the store of revisions")
	}
	for _, rev := range revs {
		if err := c.one(rev); err != nil {
			return fmt.Errorf("revision %s: %w", rev, err)
		}
	}
	if c.store.Rev != c.rev && c.store.Try != c.rev {
		return fmt.Errorf("the loader's store has %+v", c.store.Values)
	}
	return nil
}

// one checks what is reported of a revision.
func (c *checked) one(rev string) error {
	last := updater.Status("")
	if r := c.journal.Last(rev); r != nil {
		last = r.Status
	}
	if err := c.progress(rev, last); err != nil {
		return err
	}
	committed := c.store.Rev == rev
	switch {
	case c.steps.Done(rev) && !committed && !c.k.said(rev, "DONE"):
		return fmt.Errorf("it is marked as DONE; the loader's store has %+v", c.store.Values)
	case committed && rev != boot.Factory && last != updater.Done:
		return fmt.Errorf("it is %q, and committed in the loader's store", last)
	case c.store.Try == rev && last.Failed():
		return fmt.Errorf("it is %s, and the loader is to try it", last)
	case rev == c.k.asked && rev != c.rev && !over(last) && !(last == updater.Updated && rev == c.k.once):
		return fmt.Errorf("it is %s, and does not run", last)
	}
	return nil
}

// over reports whether a status is that of an update that has not begun, or has not led to its
// revision.
func over(s updater.Status) bool {
	return s == "" || s.Final() && s != updater.Done && s != updater.Updated
}

// progress compares what existing clients read with the journal.
func (c *checked) progress(rev string, last updater.Status) error {
	if last == "" || c.steps.Done(rev) {
		return nil
	}
	p, err := c.steps.Progress(rev)
	if err != nil {
		return err
	}
	if p.Status != string(last) {
		return fmt.Errorf("it is %s in the journal, and its progress says %q", last, p.Status)
	}
	return nil
}

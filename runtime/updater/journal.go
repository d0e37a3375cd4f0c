package updater

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// journalFile is the journal, below the storage. It is not in the revision's directory:
// the reason of a failure must outlive the failed revision.
const journalFile = "updates/journal"

// Bounds of the journal in bytes.
const (
	maxJournal  = 256 << 10 // when it is longer, old updates are left out
	keepJournal = 96 << 10  // of the newest updates that stay
	// reserveJournal is the space that the file has beyond its end.
	reserveJournal = 64 << 10
	maxRecord      = 16 << 10
	// readJournal is what is read of it: a full storage lets it grow beyond maxJournal.
	readJournal = 1 << 20
)

// Record is one line of the journal.
type Record struct {
	// Seq counts the records of this device. The first record of an update is its number.
	Seq int64 `json:"seq"`
	// Time is the wall clock's, which may be wrong until the network is there.
	Time     time.Time `json:"time"`
	Revision string    `json:"revision"`
	Status   Status    `json:"status"`
	Message  string    `json:"message"`
	// Began is the Seq of the first record of the update.
	Began int64 `json:"began"`
	// Mode, From and When belong to the first record.
	Mode Mode   `json:"mode,omitempty"`
	From string `json:"from,omitempty"`
	When string `json:"when,omitempty"`
	// Trial counts the boots that the update has been given, from the second on.
	Trial int `json:"trial,omitempty"`
	// Failure says why, when Status is ERROR or WONTGO.
	Failure *api.UpdateFailure `json:"failure,omitempty"`
}

// Journal is the durable list of what updates did: a line for each record, its CRC-32 in
// hexadecimal before it. A power cut can leave an unfinished line at the end, which is
// left out when the journal is read. Its methods may be called at the same time.
type Journal struct {
	path     string
	mu       sync.Mutex
	last     int64 // Seq
	list     []Record
	size     int64
	reserved int64 // until where the file has space
}

// OpenJournal reads the journal of a storage; one that does not exist is empty. An error
// does not keep the journal from being used: it says what was lost.
func OpenJournal(storage string) (*Journal, error) {
	j := &Journal{path: filepath.Join(storage, journalFile)}
	b, err := bounded.ReadFile(j.path, readJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return j, fmt.Errorf("reading the journal of updates: %w", err)
	}
	whole, lost := j.decode(b)
	if len(j.list) > 0 {
		j.last = j.list[len(j.list)-1].Seq
	}
	// New lines must not follow half a line: they overwrite it.
	j.size = int64(bytes.LastIndexByte(b, '\n') + 1)
	if lost == 0 || lost == 1 && int64(whole) == j.size { // what a power cut leaves
		return j, nil
	}
	err = fmt.Errorf("reading the journal of updates: %d lines of %s are damaged and left out", lost, j.path)
	return j, errors.Join(err, j.rewrite(j.list))
}

// decode reads the lines; whole is the length of the good ones.
func (j *Journal) decode(text []byte) (whole, lost int) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(make([]byte, 0, 4096), maxRecord+64)
	lines.Split(splitLine)
	for lines.Scan() {
		r, ok := parseRecord(lines.Bytes())
		if !ok {
			lost++
			continue
		}
		whole += len(lines.Bytes())
		j.list = append(j.list, r)
	}
	return whole, lost
}

// splitLine is bufio.ScanLines that keeps the newline: a last line without one is not
// whole.
func splitLine(data []byte, end bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if end && len(data) > 0 || len(data) > maxRecord {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func parseRecord(line []byte) (Record, bool) {
	var r Record
	sum, text, ok := bytes.Cut(line, []byte(" "))
	if !ok || !bytes.HasSuffix(text, []byte("\n")) || string(sum) != checksum(text) {
		return r, false
	}
	return r, json.Unmarshal(text, &r) == nil && r.Seq > 0
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }

func (r *Record) line() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	text = append(text, '\n')
	if len(text) > maxRecord {
		return nil, fmt.Errorf("encoding a record: %d bytes are too long", len(text))
	}
	return append([]byte(checksum(text)+" "), text...), nil
}

// Add writes a record and returns it with its number, when it is on the medium. It sets
// Seq and, in the first record of an update, Began.
func (j *Journal) Add(r Record) (Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Seq = j.last + 1
	if r.Began == 0 {
		r.Began = r.Seq
	}
	line, err := r.line()
	if err == nil {
		err = j.write(line)
	}
	if err != nil {
		return r, fmt.Errorf("writing the journal of updates: %w", err)
	}
	j.last = r.Seq
	j.list = append(j.list, r)
	return r, nil
}

// write appends a line, or rewrites the journal when it has become too long.
func (j *Journal) write(line []byte) (err error) {
	if j.size+int64(len(line)) > maxJournal {
		j.forget()
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end := j.size + int64(len(line))
	// Not at the file's end: what a failed write left there is overwritten.
	_, err = f.WriteAt(line, j.size)
	if info, statErr := f.Stat(); statErr == nil && info.Size() > end {
		err = errors.Join(err, f.Truncate(end))
		j.reserved = 0
	}
	// Space for the records to come: a full storage must not keep a reason from being
	// written. It is lost when the file is truncated. One sync is for both.
	if end > j.reserved-reserveJournal/2 && unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, end, reserveJournal) == nil {
		j.reserved = end + reserveJournal
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return err
	}
	if j.size == 0 {
		if err := syncDirs(filepath.Dir(j.path)); err != nil {
			return err
		}
	}
	j.size = end
	return nil
}

// syncDirs makes the names of a new directory and of what is in it durable.
func syncDirs(dir string) error {
	return errors.Join(atomicfile.SyncDir(dir), atomicfile.SyncDir(filepath.Dir(dir)))
}

// forget leaves the oldest updates out; those that remain are whole.
func (j *Journal) forget() {
	size, from := 0, len(j.list)
	for from > 0 {
		line, err := j.list[from-1].line()
		if size += len(line); err != nil || size > keepJournal {
			break
		}
		from--
	}
	for from < len(j.list) && j.list[from].Began != j.list[from].Seq {
		from++
	}
	list := slices.Clone(j.list[from:])
	if j.rewrite(list) == nil { // else the storage is full, and the file grows within what was reserved
		j.list = list
	}
}

func (j *Journal) rewrite(list []Record) error {
	var text bytes.Buffer
	for i := range list {
		line, err := list[i].line()
		if err != nil {
			return err
		}
		text.Write(line)
	}
	if err := atomicfile.Write(j.path, text.Bytes(), 0o644); err != nil {
		return err
	}
	j.size, j.reserved = int64(text.Len()), 0
	return nil
}

// Records returns all records, oldest first. The caller must not change them.
func (j *Journal) Records() []Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.list)
}

// Last returns the last record of a revision, or of any when rev is empty; nil when there
// is none.
func (j *Journal) Last(rev string) *Record {
	list := j.Records()
	for i := len(list) - 1; i >= 0; i-- {
		if rev == "" || list[i].Revision == rev {
			return &list[i]
		}
	}
	return nil
}

// Open returns the last record of each update that has not ended, oldest first. One whose
// revision has had another update since has ended, too: its last record could not be written.
func (j *Journal) Open() []Record {
	last := map[string]Record{}
	for _, r := range j.Records() {
		last[r.Revision] = r
	}
	var open []Record
	for _, r := range last {
		if !r.Status.Final() {
			open = append(open, r)
		}
	}
	// slices.SortFunc of a struct of this size is 17 KB of the device binary.
	sort.Slice(open, func(i, j int) bool { return open[i].Seq < open[j].Seq })
	return open
}

// first returns the first record of the update to which r belongs.
func (j *Journal) first(r Record) Record {
	for _, f := range j.Records() {
		if f.Seq == r.Began {
			return f
		}
	}
	return r
}

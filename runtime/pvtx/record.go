package pvtx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// phase is how far a transaction is; the numbers are those in the file .status.
type phase int32

const (
	phaseNone      phase = 0 // also: an error ended it
	phaseQueue     phase = 1 // a queue is configured, nothing has begun
	phaseActive    phase = 2
	phaseAborted   phase = 3
	phaseCommitted phase = 4
	phaseDeployed  phase = 5
)

var phaseNames = map[phase]string{
	phaseNone: "none", phaseQueue: "queue", phaseActive: "active",
	phaseAborted: "aborted", phaseCommitted: "committed", phaseDeployed: "deployed",
}

// String returns the name in [Status].
func (p phase) String() string {
	if name, ok := phaseNames[p]; ok {
		return name
	}
	return "unknown"
}

// maxPath bounds the paths in a record, with the NUL that ends them.
const maxPath = 4096

// record is the file .status of a transaction's directory. Scripts read it, so its layout
// is that of earlier versions: a structure of C in the byte order of the machine.
type record struct {
	phase   phase
	objects string // directory of a local transaction's objects, "" for one of the device
	queue   string // directory of the queue, "" without one
	count   int32  // entries of the queue so far
}

// Offsets in the file, and its sizes without and with a queue. Numbers have 32 bits, paths
// [maxPath] bytes, padded with NUL.
const (
	atPhase   = 0
	atLocal   = 4 // 1 for a local transaction
	atObjects = 8
	atQueue   = atObjects + maxPath
	atCount   = atQueue + maxPath
	atError   = atCount + 4 // always 0: a step is in the queue or it is not
	sizeShort = atQueue
	sizeQueue = atError + 4
)

func (r record) local() bool { return r.objects != "" }

func (r record) encode() ([]byte, error) {
	for _, p := range []string{r.objects, r.queue} {
		if len(p) >= maxPath {
			return nil, fmt.Errorf("path %.80q…: longer than %d bytes", p, maxPath-1)
		}
	}
	b := make([]byte, sizeQueue)
	put := func(at int, n int32) { binary.NativeEndian.PutUint32(b[at:], uint32(n)) }
	put(atPhase, int32(r.phase))
	if r.local() {
		put(atLocal, 1)
	}
	copy(b[atObjects:], r.objects)
	if r.queue == "" {
		return b[:sizeShort], nil
	}
	copy(b[atQueue:], r.queue)
	put(atCount, r.count)
	return b, nil
}

func decodeRecord(b []byte) (record, error) {
	if len(b) != sizeShort && len(b) != sizeQueue {
		return record{}, fmt.Errorf("%d bytes; a record has %d or %d", len(b), sizeShort, sizeQueue)
	}
	get := func(at int) int32 { return int32(binary.NativeEndian.Uint32(b[at:])) }
	path := func(at int) string {
		before, _, _ := bytes.Cut(b[at:at+maxPath], []byte{0})
		return string(before)
	}
	r := record{phase: phase(get(atPhase))}
	if get(atLocal) != 0 {
		r.objects = path(atObjects)
	}
	if len(b) == sizeQueue {
		r.queue, r.count = path(atQueue), max(0, get(atCount))
	}
	return r, nil
}

// The files of a transaction's directory.
const (
	fileRecord = ".status"
	fileState  = "current.json" // the state being edited
	fileBase   = "base.json"    // the state that a local transaction began with
)

// load returns the record of a directory, an empty one when it has none.
func load(dir string) (record, error) {
	b, err := bounded.ReadFile(filepath.Join(dir, fileRecord), 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	r, err := decodeRecord(b)
	if err != nil {
		return record{}, fmt.Errorf("reading %s: %w; pvtx abort discards it", filepath.Join(dir, fileRecord), err)
	}
	return r, nil
}

func (r record) store(dir string) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	return atomicfile.Replace(filepath.Join(dir, fileRecord), b, 0o600)
}

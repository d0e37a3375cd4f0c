package logs

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// positionAttr is the extended attribute with the number of bytes that have been read,
// in decimal.
const positionAttr = "trusted.pv.logger.pos"

const maxPositions = 64 << 10 // bytes of the file with positions

// positions holds the positions in files on file systems without extended attributes.
type positions struct {
	path  string
	kept  map[string]position // by path in the container
	dirty bool
}

type position struct {
	fileID
	Offset int64 `json:"offset"`
}

// loadPositions reads the file; a missing or damaged one counts as empty.
func loadPositions(path string) *positions {
	p := &positions{path: path, kept: map[string]position{}}
	if path == "" {
		return p
	}
	data, err := bounded.ReadFile(path, maxPositions)
	if err != nil || json.Unmarshal(data, &p.kept) != nil || p.kept == nil {
		p.kept = map[string]position{}
	}
	return p
}

// store writes the file. Without a path, or on an error, files are read from their
// beginning after the next start.
func (p *positions) store() {
	if !p.dirty || p.path == "" {
		return
	}
	p.dirty = false
	if data, err := json.Marshal(p.kept); err == nil {
		_ = atomicfile.Write(p.path, data, 0o600)
	}
}

// position returns how far a file was read before this start.
func (f *Follower) position(l *followed) int64 {
	size, err := sizeOf(l.f)
	if err != nil {
		return 0
	}
	var buf [32]byte
	at := int64(0)
	if n, err := unix.Fgetxattr(int(l.f.Fd()), positionAttr, buf[:]); err == nil {
		text := strings.TrimRight(string(buf[:n]), "\x00\n")
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			at = v
		}
	} else if p := f.side.kept[l.Path]; p.fileID == l.id {
		at = p.Offset
	}
	if at < 0 || at > size {
		return 0
	}
	return at
}

// keep saves a file's position, in its attribute or in f's positions.
func (f *Follower) keep(l *followed) {
	l.moved = false
	text := strconv.FormatInt(l.offset, 10)
	if unix.Fsetxattr(int(l.f.Fd()), positionAttr, []byte(text), 0) == nil {
		return
	}
	f.side.kept[l.Path] = position{l.id, l.offset}
	f.side.dirty = true
}

// save saves changed positions, after the lines are in the log files: lines lost in a
// power cut are read again.
func (f *Follower) save() {
	f.saved = time.Now()
	moved := false
	for _, l := range f.files {
		moved = moved || l.moved && l.f != nil
	}
	if moved {
		f.s.do(f.s.w.flush)
	}
	for _, l := range f.files {
		if l.moved && l.f != nil {
			f.keep(l)
		}
	}
	f.side.store()
}

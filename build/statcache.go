package build

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/filesig"
)

// statLimit is the largest number of entries that are kept, the newest first; files beyond
// it are hashed again.
const statLimit = 100_000

// StatCache remembers the SHA-256 of files by path, size, modification time,
// change time and inode, so that unchanged files are not read again.
// It is safe for use by several goroutines.
type StatCache struct {
	mu     sync.Mutex
	path   string               // where it is kept; empty: in memory only
	kept   []byte               // lines of the file, sorted, which may be mapped memory
	seen   map[string]statEntry // what this process has added
	dirty  bool
	hashed int
	now    func() time.Time
}

type statEntry struct {
	id    string // size, times and inode
	value string // for a file its digest
}

// openStatCache loads the cache kept at path. A missing or damaged file counts as an
// empty cache: it costs time, not correctness.
func openStatCache(path string) *StatCache {
	c := &StatCache{path: path, seen: map[string]statEntry{}, now: time.Now}
	if text := mapFile(path); text != nil {
		c.kept = statLines(text)
		runtime.AddCleanup(c, func(text []byte) { _ = unix.Munmap(text) }, text) // text was mapped
	}
	return c
}

// mapFile maps a file into memory: of megabytes a build looks a few pages up. Save puts a
// new file in its place and leaves the mapped one as it is. It returns nil for a file that
// is empty or cannot be read.
func mapFile(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	text, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return text
}

// Digest returns the SHA-256 of a regular file in hex. The info is a fresh result of
// os.Stat or os.Lstat.
func (c *StatCache) Digest(path string, info fs.FileInfo) (string, error) {
	return c.digest(path, path, info, digestReader)
}

// code is Digest for a Go file; comments do not count, see [digestCode].
func (c *StatCache) code(path string, info fs.FileInfo) (string, error) {
	return c.digest("go:"+path, path, info, digestCode)
}

// digest returns what of returns for a file, from the entry if it is still valid.
func (c *StatCache) digest(entry, path string, info fs.FileInfo, of func(io.Reader) (string, error)) (string, error) {
	if old, ok := c.Recall(entry, filesig.Of(info)); ok && len(old) == 2*sha256.Size {
		return old, nil
	}
	return c.hash(entry, path, of)
}

// Recall returns what Keep was given for an entry, if that was with the same id.
func (c *StatCache) Recall(entry, id string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.seen[entry]
	if !ok {
		old, ok = findStat(c.kept, entry)
	}
	return old.value, ok && old.id == id
}

// Keep remembers a value while the id of its entry, the attributes of files, is the same.
// None of the three may have a tab or a line break, or it is forgotten with the process.
func (c *StatCache) Keep(entry, id, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[entry] = statEntry{id, value}
	c.dirty = true
}

func (c *StatCache) hash(entry, path string, of func(io.Reader) (string, error)) (string, error) {
	started := c.now()
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return "", err
	}
	digest, err := of(f)
	if err != nil {
		return "", fmt.Errorf("hashing %s: %w", path, err)
	}
	after, err := f.Stat()
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	c.hashed++
	c.mu.Unlock()
	if filesig.Of(before) == filesig.Of(after) && filesig.Settled(after, started) {
		c.Keep(entry, filesig.Of(after), digest)
	}
	return digest, nil
}

// Save writes the cache, merged with what other builds have saved since it was loaded.
func (c *StatCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty || c.path == "" {
		return nil
	}
	all := maps.Clone(c.seen)
	now, _ := os.ReadFile(c.path) // a file that cannot be read has no lines
	for line := range bytes.Lines(statLines(now)) {
		path, e, ok := parseStat(bytes.TrimSuffix(line, []byte("\n")))
		if _, mine := all[path]; ok && !mine && len(all) < statLimit {
			all[path] = e
		}
	}
	var text bytes.Buffer
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if e := all[path]; !strings.ContainsAny(path+e.id+e.value, "\t\n") {
			fmt.Fprintf(&text, "%s\t%s\t%s\n", path, e.id, e.value)
		}
	}
	c.kept, c.seen, c.dirty = text.Bytes(), map[string]statEntry{}, false
	return atomicfile.Write(c.path, slices.Concat([]byte(statHeader), c.kept, []byte(statFooter)), 0o644)
}

const (
	statHeader = "stat cache 2\n"
	statFooter = "end\n"
)

// statLines returns the lines that Save wrote, without those around them. A text that lacks
// one of these is damaged and counts as empty.
func statLines(text []byte) []byte {
	body, begun := bytes.CutPrefix(text, []byte(statHeader))
	body, ended := bytes.CutSuffix(body, []byte(statFooter))
	if !begun || !ended || len(body) > 0 && body[len(body)-1] != '\n' {
		return nil
	}
	return body
}

// findStat looks an entry up in sorted lines, each of which ends with a line break.
func findStat(lines []byte, entry string) (statEntry, bool) {
	wanted := []byte(entry)
	for len(lines) > 0 {
		middle := len(lines) / 2
		start := bytes.LastIndexByte(lines[:middle], '\n') + 1
		end := start + bytes.IndexByte(lines[start:], '\n')
		path, _, ok := bytes.Cut(lines[start:end], []byte("\t"))
		switch order := bytes.Compare(path, wanted); {
		case !ok:
			return statEntry{}, false
		case order == 0:
			_, e, ok := parseStat(lines[start:end])
			return e, ok
		case order < 0:
			lines = lines[end+1:]
		default:
			lines = lines[:start]
		}
	}
	return statEntry{}, false
}

// parseStat reads one line.
func parseStat(line []byte) (path string, e statEntry, ok bool) {
	parts := strings.SplitN(string(line), "\t", 3)
	if len(parts) != 3 {
		return "", e, false
	}
	return parts[0], statEntry{parts[1], parts[2]}, true
}

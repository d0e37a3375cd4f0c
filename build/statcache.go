package build

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
)

// racy is how much older than the moment of hashing a file's times must be for its digest
// to be kept. A write within one tick of the file system's clock leaves the times as they
// were; the coarsest clock in use is FAT's with two seconds.
const racy = 2 * time.Second

// statLimit is the largest number of entries that are kept; files beyond it are hashed
// again.
const statLimit = 200_000

// StatCache remembers the SHA-256 of files by path, size, modification time,
// change time and inode, so that unchanged files are not read again.
// It is safe for use by several goroutines.
type StatCache struct {
	mu     sync.Mutex
	path   string // where it is kept; empty: in memory only
	seen   map[string]statEntry
	dirty  bool
	hashed int
	now    func() time.Time
}

type statEntry struct {
	id     string // size, times and inode
	digest string
}

// openStatCache loads the cache kept at path. A missing or damaged file counts as an
// empty cache: it costs time, not correctness.
func openStatCache(path string) *StatCache {
	c := &StatCache{path: path, seen: map[string]statEntry{}, now: time.Now}
	c.merge(readStats(path))
	return c
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
	id := statID(info)
	c.mu.Lock()
	old, ok := c.seen[entry]
	c.mu.Unlock()
	if ok && old.id == id {
		return old.digest, nil
	}
	return c.hash(entry, path, of)
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
	defer c.mu.Unlock()
	c.hashed++
	if statID(before) == statID(after) && settled(after, started) {
		c.seen[entry] = statEntry{statID(after), digest}
		c.dirty = true
	}
	return digest, nil
}

// settled reports whether the file's times are old enough that a later write must change
// them.
func settled(info fs.FileInfo, now time.Time) bool {
	st := info.Sys().(*syscall.Stat_t)
	changed := time.Unix(st.Ctim.Unix())
	return info.ModTime().Before(now.Add(-racy)) && changed.Before(now.Add(-racy))
}

// statID returns what must stay the same for a digest to stay valid.
func statID(info fs.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d,%d,%d,%d,%d", info.Size(), info.ModTime().UnixNano(), st.Ctim.Nano(), st.Ino, st.Dev)
}

// Save writes the cache, merged with what other builds have saved since it was loaded.
func (c *StatCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty || c.path == "" {
		return nil
	}
	mine := c.seen
	c.seen = map[string]statEntry{}
	c.merge(readStats(c.path))
	c.merge(mine)
	var text strings.Builder
	text.WriteString(statHeader + "\n")
	for path, e := range c.seen {
		if !strings.ContainsAny(path, "\t\n") {
			fmt.Fprintf(&text, "%s\t%s\t%s\n", e.id, e.digest, path)
		}
	}
	text.WriteString(statFooter + "\n")
	c.dirty = false
	return atomicfile.Write(c.path, []byte(text.String()), 0o644)
}

func (c *StatCache) merge(more map[string]statEntry) {
	for path, e := range more {
		if len(c.seen) >= statLimit {
			return
		}
		c.seen[path] = e
	}
}

const (
	statHeader = "stat cache 1"
	statFooter = "end"
)

func readStats(path string) map[string]statEntry {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	found, err := parseStats(bufio.NewScanner(f))
	if err != nil {
		return nil
	}
	return found
}

var errStats = errors.New("stat cache is damaged")

// parseStats reads the lines that Save wrote; one malformed line discards all of them.
func parseStats(lines *bufio.Scanner) (map[string]statEntry, error) {
	found := map[string]statEntry{}
	if !lines.Scan() || lines.Text() != statHeader {
		return nil, errStats
	}
	for lines.Scan() {
		line := lines.Text()
		if line == statFooter {
			return found, nil
		}
		id, rest, ok := strings.Cut(line, "\t")
		digest, path, ok2 := strings.Cut(rest, "\t")
		if !ok || !ok2 || len(digest) != 64 || len(found) >= statLimit {
			return nil, errStats
		}
		found[path] = statEntry{id, digest}
	}
	return nil, errStats
}

package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/filestat"
)

// stamp distinguishes a changed file from an unchanged one. A program cannot set the
// change time, so a file that was written to has a different stamp, unless the write
// happened within one tick of the clock, see tick.
type stamp struct {
	id           filestat.ID
	size         int64
	mtime, ctime int64 // ns since 1970
}

func stampOf(st *filestat.Stat) stamp {
	return stamp{st.ID, st.Size, st.Modified, st.Changed}
}

// tick is more than the resolution of the kernel's file times (a jiffy, at most
// 10 ms). A file that changed less than a tick before it was read may change again
// without a new stamp, and is not cached.
const tick = 20 * time.Millisecond

type sum32 [sha256.Size]byte

func (s sum32) String() string { return hex.EncodeToString(s[:]) }

// parseSum decodes an object's name, which must be valid.
func parseSum(name string) (s sum32) {
	_, _ = hex.Decode(s[:], []byte(name))
	return s
}

// known is a file's entry in the cache.
type known struct {
	stamp stamp
	sum   sum32 // of the file's bytes
	canon sum32 // of its value in canonical form; zero when it is not an inline value
}

// cache holds the sums of files by key. Each entry is valid only for its stamp.
type cache struct {
	path  string // empty: nothing is saved
	files map[string]known
	dirty bool
}

const cacheMagic = "pvr stat cache 1\n"

// maxCache bounds the file in bytes: some two million files.
const maxCache = 512 << 20

// cacheName names the cache by the identity of the directory .pvr, which does not
// change when a checkout is moved.
func cacheName(id filestat.ID) string { return fmt.Sprintf("stat-%x-%x", id.Dev, id.Ino) }

// loadCache reads the cache of this checkout; a missing or damaged one counts as empty.
func (r *Repo) loadCache() *cache {
	c := &cache{files: map[string]known{}}
	if r.opt.Cache == "" || r.lock == nil {
		return c
	}
	st, err := filestat.Of(r.dot())
	if err != nil {
		return c
	}
	c.path = filepath.Join(r.opt.Cache, cacheName(st.ID))
	text, err := bounded.ReadFile(c.path, maxCache)
	if err != nil {
		return c
	}
	if files, err := decodeCache(text); err == nil {
		c.files = files
	}
	return c
}

// put records a file that was read after the given moment.
func (c *cache) put(key string, k known, looked time.Time) {
	if old, ok := c.files[key]; ok && old == k {
		return
	}
	limit := looked.Add(-tick).UnixNano()
	if k.stamp.mtime >= limit || k.stamp.ctime >= limit {
		if _, ok := c.files[key]; !ok {
			return
		}
		delete(c.files, key)
	} else {
		c.files[key] = k
	}
	c.dirty = true
}

// learn calls look for the files whose indices are in todo, several at a time, and
// caches the results.
func (c *cache) learn(ctx context.Context, files []file, todo []int, look func(ctx context.Context, i int) (known, error)) error {
	var mu sync.Mutex
	err := parallel(ctx, len(todo), func(ctx context.Context, n int) error {
		looked := time.Now()
		k, err := look(ctx, todo[n])
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		c.put(files[todo[n]].key, k, looked)
		return nil
	})
	c.save()
	return err
}

// keep removes every entry for which names returns false.
func (c *cache) keep(names func(key string) bool) {
	for key := range c.files {
		if !names(key) {
			delete(c.files, key)
			c.dirty = true
		}
	}
}

// save writes the cache. It may fail silently: a lost cache costs only time.
func (c *cache) save() {
	if c.path == "" || !c.dirty {
		return
	}
	dir := filepath.Dir(c.path)
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	if _, err := os.Lstat(c.path); err != nil {
		pruneCaches(dir)
	}
	if atomicfile.Replace(c.path, encodeCache(c.files), 0o600) == nil {
		c.dirty = false
	}
}

// staleAfter is the age at which the caches of unused checkouts are removed.
const staleAfter = 60 * 24 * time.Hour

func pruneCaches(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		name := strings.TrimPrefix(e.Name(), ".")
		if err == nil && (strings.HasPrefix(name, "stat-") || strings.HasPrefix(name, "export-")) && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func encodeCache(files map[string]known) []byte {
	out := make([]byte, 0, len(cacheMagic)+len(files)*160+sha256.Size)
	out = append(out, cacheMagic...)
	out = binary.AppendUvarint(out, uint64(len(files)))
	for key, k := range files {
		out = binary.AppendUvarint(out, uint64(len(key)))
		out = append(out, key...)
		for _, n := range []uint64{k.stamp.id.Dev, k.stamp.id.Ino, uint64(k.stamp.size), uint64(k.stamp.mtime), uint64(k.stamp.ctime)} {
			out = binary.LittleEndian.AppendUint64(out, n)
		}
		out = append(out, k.sum[:]...)
		out = append(out, k.canon[:]...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

var errCache = errors.New("damaged cache")

// entrySize is the fixed part of an entry.
const entrySize = 5*8 + 2*sha256.Size

func decodeCache(text []byte) (map[string]known, error) {
	body := len(text) - sha256.Size
	if body < len(cacheMagic) || string(text[:len(cacheMagic)]) != cacheMagic {
		return nil, errCache
	}
	if sum := sha256.Sum256(text[:body]); !bytes.Equal(sum[:], text[body:]) {
		return nil, errCache
	}
	return decodeEntries(text[len(cacheMagic):body])
}

func decodeEntries(b []byte) (map[string]known, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > uint64(len(b)/entrySize) {
		return nil, errCache
	}
	b = b[n:]
	files := make(map[string]known, count)
	for range count {
		size, n := binary.Uvarint(b)
		if n <= 0 || uint64(len(b)-n) < entrySize || size > uint64(len(b)-n-entrySize) {
			return nil, errCache
		}
		b = b[n:]
		files[string(b[:size])] = decodeEntry(b[size:])
		b = b[size+entrySize:]
	}
	if len(b) != 0 {
		return nil, errCache
	}
	return files, nil
}

func decodeEntry(b []byte) known {
	var k known
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	k.stamp = stamp{filestat.ID{Dev: word(0), Ino: word(1)}, int64(word(2)), int64(word(3)), int64(word(4))}
	copy(k.sum[:], b[40:])
	copy(k.canon[:], b[40+sha256.Size:])
	return k
}

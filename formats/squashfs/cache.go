package squashfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"github.com/pantavisor/pantavisor/internal/scratch"
)

// Cache keeps the packed blocks of images for others that have the same content, as the root file systems
// of one container for several architectures: what is in both is compressed once. The bytes of an image
// are the same with a cache and without. It may be used by several writers at once.
type Cache struct {
	file *os.File

	mu    sync.Mutex
	end   int64
	known map[[sha256.Size]byte]packed
}

// packed is where a block lies in the file of a cache. One that is kept as it is takes no room there.
type packed struct {
	at   int64
	size uint32 // as an inode records it
}

// Limits of a cache: what does not fit is compressed again.
const (
	maxCached       = 8 << 30 // bytes in its file
	maxCachedBlocks = 1 << 19 // about 64 MiB of memory
)

// NewCache returns an empty cache with a nameless file in dir; default is the system's directory for
// temporary files.
func NewCache(dir string) (*Cache, error) {
	f, err := scratch.Unnamed(dir, ".squashfs-")
	if err != nil {
		return nil, fmt.Errorf("creating a cache of blocks: %w", err)
	}
	return &Cache{file: f, known: map[[sha256.Size]byte]packed{}}, nil
}

// Close frees the cache's space.
func (c *Cache) Close() error { return c.file.Close() }

// cacheKey returns the key of a block: its content, and all that decides what it is packed to.
func cacheKey(o Options, raw []byte) (key [sha256.Size]byte) {
	h := sha256.New()
	var form []byte
	for _, n := range []int{int(o.Compression), o.Level, o.BlockSize} {
		form = binary.LittleEndian.AppendUint32(form, uint32(n))
	}
	h.Write(form)
	h.Write(raw)
	h.Sum(key[:0])
	return key
}

// get fills in what a block is packed to, and reports whether it is known.
func (c *Cache) get(key [sha256.Size]byte, b *block) (bool, error) {
	c.mu.Lock()
	p, ok := c.known[key]
	c.mu.Unlock()
	if !ok {
		return false, nil
	}
	b.packed, b.size = b.raw, p.size
	if p.size&uncompressed != 0 {
		return true, nil
	}
	b.packed = make([]byte, p.size)
	if _, err := c.file.ReadAt(b.packed, p.at); err != nil {
		return false, fmt.Errorf("reading the cache of blocks: %w", err)
	}
	return true, nil
}

// put keeps what a block was packed to.
func (c *Cache) put(key [sha256.Size]byte, b *block) error {
	need := int64(len(b.packed))
	if b.size&uncompressed != 0 {
		need = 0
	}
	c.mu.Lock()
	at := c.end
	_, known := c.known[key]
	if known || at+need > maxCached || len(c.known) >= maxCachedBlocks {
		c.mu.Unlock()
		return nil
	}
	c.end += need
	c.mu.Unlock()
	if need > 0 {
		if _, err := c.file.WriteAt(b.packed, at); err != nil {
			return fmt.Errorf("writing the cache of blocks: %w", err)
		}
	}
	c.mu.Lock()
	c.known[key] = packed{at, b.size}
	c.mu.Unlock()
	return nil
}

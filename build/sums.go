package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// sumsFile is kept in an entry of the cache, beside the record.
const sumsFile = "sums.json"

// knownSums are the SHA-256 of files of an output. A file of gigabytes, most of which are
// zeros, takes seconds, which only the first build that publishes an output spends.
type knownSums struct {
	Output string            `json:"output"` // digest of the output that they belong to
	Files  map[string]string `json:"files"`  // by path in the output
}

// sums returns the known digests of the files of an entry's output.
func (c *Cache) sums(r *Record) map[string]string {
	var known knownSums
	text, err := os.ReadFile(filepath.Join(c.entry(r.Key), sumsFile))
	if err != nil || json.Unmarshal(text, &known) != nil || known.Output != r.Output || known.Files == nil {
		return map[string]string{}
	}
	return known.Files
}

// keepSum adds the digest of a file. When it cannot be written, the next build computes it
// again.
func (c *Cache) keepSum(r *Record, file, sum string) {
	c.summing.Lock()
	defer c.summing.Unlock()
	known := knownSums{r.Output, c.sums(r)}
	known.Files[file] = sum
	if text, err := json.Marshal(known); err == nil {
		_ = atomicfile.Write(filepath.Join(c.entry(r.Key), sumsFile), append(text, '\n'), 0o644)
	}
}

// sum returns the SHA-256 of a file in an entry's output, which is computed once.
func (c *Cache) sum(ctx context.Context, r *Record, file string) (string, error) {
	if known := c.sums(r)[file]; known != "" {
		return known, nil
	}
	sum, err := SumFile(ctx, filepath.Join(c.out(r.Key), filepath.FromSlash(file)))
	if err == nil {
		c.keepSum(r, file, sum)
	}
	return sum, err
}

// SumFile returns the SHA-256 of a whole file in hex. Holes are not read, but count as the
// zeros that they are.
func SumFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	end := int64(0)
	err = filecopy.Extents(f, info.Size(), func(from, to int64) error {
		if err := addZeros(ctx, sum, from-end); err != nil {
			return err
		}
		end = to
		n, err := io.Copy(sum, ctxio.Reader(ctx, io.NewSectionReader(f, from, to-from)))
		if err == nil && n < to-from {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err == nil {
		err = addZeros(ctx, sum, info.Size()-end)
	}
	return hex.EncodeToString(sum.Sum(nil)), err
}

// addZeros adds n zero bytes to a digest.
func addZeros(ctx context.Context, sum hash.Hash, n int64) error {
	for ; n > 0 && ctx.Err() == nil; n -= block {
		sum.Write(zeros[:min(block, n)])
	}
	return ctx.Err()
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// checker looks after the files of a revision's trail.
type checker struct {
	trail string
	state *state.State
	sys   *manifest.System
	store *objects.Store
	hash  bool // PV_SECUREBOOT_CHECKSUM
}

// container checks the files that belong to a container: what the trail lost is put
// back, what the store lost or what has another content than its name says is an
// error that names it.
func (c *checker) container(ctx context.Context, name string) error {
	for _, key := range c.state.Keys() {
		owner, ok := c.sys.Owner(key)
		if !ok || owner != name {
			continue
		}
		if err := c.file(ctx, key); err != nil {
			return fmt.Errorf("checking %s: %w", key, err)
		}
	}
	return nil
}

func (c *checker) file(ctx context.Context, key string) error {
	path := filepath.Join(c.trail, key)
	sum, isObject := c.state.Object(key)
	if !isObject {
		return c.inline(key, path)
	}
	if !c.store.Has(sum) {
		return permanent(fmt.Errorf("object %s is missing", sum))
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := c.relink(key, sum, path); err != nil {
			return err
		}
	}
	if !c.hash {
		return nil
	}
	return c.content(ctx, sum)
}

// relink puts a lost file of the trail back.
func (c *checker) relink(key, sum, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o775); err != nil {
		return err
	}
	if filepath.Ext(key) == ".bind" {
		return c.store.Copy(sum, path, 0o644)
	}
	return c.store.LinkOrCopy(sum, path, 0o644)
}

// inline puts a JSON file of the trail back when it is lost.
func (c *checker) inline(key, path string) error {
	text, ok := c.state.Get(key)
	if !ok || !state.IsInline(key) {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o775); err != nil {
		return err
	}
	return atomicfile.Write(path, text, 0o644)
}

// verifiedAttr marks an object whose content has been checked; its value is the
// size and modification time it had then. Hashing everything at every boot would
// take minutes on a slow device, and a write to the object changes its time.
const verifiedAttr = "trusted.pv.verified"

// content checks an object's content against its name, once per content.
func (c *checker) content(ctx context.Context, sum string) error {
	path, err := c.store.Path(sum)
	if err != nil {
		return permanent(err)
	}
	mark, err := fileMark(path)
	if err != nil {
		return err
	}
	buf := make([]byte, 64)
	if n, err := unix.Getxattr(path, verifiedAttr, buf); err == nil && string(buf[:n]) == mark {
		return nil
	}
	if err := c.store.Verify(ctx, sum); err != nil {
		return permanent(err)
	}
	_ = unix.Setxattr(path, verifiedAttr, []byte(mark), 0) // without it the next boot checks again
	return nil
}

func fileMark(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(info.Size(), 10) + " " + strconv.FormatInt(info.ModTime().UnixNano(), 10), nil
}

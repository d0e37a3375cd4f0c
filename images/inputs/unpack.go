package inputs

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/squashfs"

	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// maxUnpacked bounds what an archive of modules or firmware may hold, in bytes.
const maxUnpacked = 8 << 30

// stream opens an archive of the list, decompressed, and checks its digest when it is closed.
// Read it to its end.
func stream(ctx context.Context, from, digest string, read func(io.Reader) error) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	all := io.TeeReader(ctxio.Reader(ctx, f), sum)
	in, err := plain(bufio.NewReader(all))
	if err != nil {
		return err
	}
	defer in.Close()
	if err := read(in); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != digest {
		return changed(from)
	}
	return nil
}

// plain decompresses a stream. An archive in the form cpio is one of its own.
func plain(r *bufio.Reader) (io.ReadCloser, error) {
	if head, err := r.Peek(len(cpioMagic)); err == nil && string(head) == cpioMagic {
		return io.NopCloser(r), nil
	}
	return decompress.Reader(r)
}

// cpioMagic is what archives in the form newc begin with (initramfs buffer format).
const cpioMagic = "070701"

// unpackTar writes the directories, regular files and symbolic links of an archive.
func unpackTar(ctx context.Context, out, from, digest string) error {
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	return stream(ctx, from, digest, func(in io.Reader) error {
		return untar(root, tarball.NewReader(io.LimitReader(in, maxUnpacked)))
	})
}

func untar(root *os.Root, in *tarball.Reader) error {
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "unpacking")
		}
		name := path.Clean(strings.TrimPrefix(e.Name, "./"))
		if name == "." {
			continue
		}
		if !fs.ValidPath(name) {
			return fault.New(fault.BadInput, "unpacking: the name %.200q leads out of the archive", e.Name)
		}
		if err := member(root, name, e.Mode, e.Link, e.HardLink, in); err != nil {
			return fault.Wrap(fault.BadInput, err, "unpacking %.200q", e.Name)
		}
	}
}

// member writes a member of an archive. Devices, pipes and sockets are left out where a whole root
// file system has them; modules and firmware have none.
func member(root *os.Root, name string, mode fs.FileMode, link, hard string, content io.Reader) error {
	if special(mode, hard) {
		if strings.HasPrefix(strings.TrimPrefix(name, "usr/"), "lib/") {
			return fault.New(fault.BadInput, "it is %s: want files, directories and links", typeName(mode))
		}
		return nil
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if old, err := root.Lstat(name); err == nil && !(old.IsDir() && mode.IsDir()) {
		return fault.New(fault.BadInput, "the name is there twice")
	}
	switch {
	case mode.IsDir():
		return root.MkdirAll(name, 0o755)
	case hard != "":
		return root.Link(path.Clean(strings.TrimPrefix(hard, "./")), name)
	case mode.Type() == fs.ModeSymlink:
		return root.Symlink(link, name)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644|mode&0o111)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	return f.Close()
}

// special reports whether a member is neither a file nor a directory nor a link.
func special(mode fs.FileMode, hard string) bool {
	return hard == "" && !mode.IsDir() && !mode.IsRegular() && mode.Type() != fs.ModeSymlink
}

func typeName(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	}
	return "a socket"
}

// unpackSquashfs writes the directories, regular files and symbolic links of a file system.
func unpackSquashfs(ctx context.Context, out, from, digest string) (err error) {
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	source, err := file.OpenFromPath(from, true)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	defer func() { // the library does not check what it reads
		if r := recover(); r != nil {
			err = fault.New(fault.BadInput, "the file system is damaged: %v", r)
		}
	}()
	image, err := squashfs.Read(source, info.Size(), 0, 0)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the file system")
	}
	u := &squash{ctx: ctx, image: image, root: root}
	if err := u.directory("."); err != nil {
		return err
	}
	return unchanged(ctx, from, digest)
}

// squash unpacks a squashfs.
type squash struct {
	ctx   context.Context //nolint:containedctx // of one call
	image *squashfs.FileSystem
	root  *os.Root
	bytes int64
	names int
	depth int
}

// maxDepth and maxNames bound what a damaged file system makes of itself: a directory may be its
// own parent.
const (
	maxDepth = 128
	maxNames = 1 << 20
)

func (u *squash) directory(dir string) error {
	if u.depth++; u.depth > maxDepth {
		return fault.New(fault.BadInput, "more than %d directories in each other", maxDepth)
	}
	defer func() { u.depth-- }()
	list, err := u.image.ReadDir(dir)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading directory %s", dir)
	}
	for _, e := range list {
		if u.names++; u.names > maxNames {
			return fault.New(fault.BadInput, "more than %d names", maxNames)
		}
		name := path.Join(dir, e.Name())
		if !fs.ValidPath(e.Name()) || strings.Contains(e.Name(), "/") || !fs.ValidPath(name) {
			return fault.New(fault.BadInput, "%.200q in %s is not a name", e.Name(), dir)
		}
		if err := u.entry(name, e); err != nil {
			return fault.Wrap(fault.BadInput, err, "unpacking %s", name)
		}
	}
	return u.ctx.Err()
}

func (u *squash) entry(name string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return errors.Join(u.root.MkdirAll(name, 0o755), u.directory(name))
	case mode.Type() == fs.ModeSymlink:
		link, ok := e.(interface{ Readlink() (string, error) })
		if !ok {
			return fmt.Errorf("its target cannot be read")
		}
		to, err := link.Readlink()
		return errors.Join(err, member(u.root, name, mode, to, "", nil))
	case !mode.IsRegular():
		return member(u.root, name, mode, "", "", nil)
	}
	if u.bytes += info.Size(); u.bytes > maxUnpacked {
		return fault.New(fault.BadInput, "it holds more than %d bytes", int64(maxUnpacked))
	}
	f, err := u.image.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return member(u.root, name, info.Mode(), "", "", io.LimitReader(f, info.Size()))
}

// unchanged checks that a file still has its digest.
func unchanged(ctx context.Context, file, digest string) error {
	in := input{}
	sum, err := in.digest(ctx, filepath.Clean(file))
	if err == nil && sum != digest {
		err = changed(file)
	}
	return err
}

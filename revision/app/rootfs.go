package app

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
)

// essential are the directories that must exist in a read-only container.
var essential = []string{"proc", "sys", "dev", "tmp", "var/tmp", "run", "var/run"}

// emulator is the program that builders leave in images for other architectures.
const emulator = "usr/bin/qemu-arm-static"

// composeImage builds the root file system of a container image.
func (w *Workspace) composeImage(ctx context.Context, name string, i *image.Image) (*rootfs.Tree, error) {
	tree, err := rootfs.New("", w.limit())
	if err != nil {
		return nil, err
	}
	w.say(name, "", "Generating squashfs...")
	w.say(name, "", "Downloading layers...")
	extracting := false
	err = i.Compose(ctx, tree, func(p image.Progress) {
		if p.State == image.Extracting && !extracting {
			extracting = true
			w.say(name, "", "Extracting layers...")
		}
		w.say(name, "", "%s", layerLine(p))
	})
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	w.warnPassed(name, tree)
	w.say(name, "", "Stripping qemu files...")
	tree.Remove(emulator)
	w.say(name, "", "Adding essential structural dirs to operate RO containers")
	if err := tree.EnsureDirectories(essential...); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return tree, nil
}

// warnPassed reports attributes that a root file system cannot have.
func (w *Workspace) warnPassed(name string, tree *rootfs.Tree) {
	if passed := tree.Passed(); passed != "" {
		w.notice(name, "WARN: %s: squashfs cannot hold all attributes of its files; left out: %s", name, passed)
	}
}

func layerLine(p image.Progress) string {
	switch p.State {
	case image.Extracting:
		return fmt.Sprintf("Extracting layer %d", p.Layer)
	case image.Cached:
		return fmt.Sprintf("Layer %d downloaded(cache)", p.Layer)
	}
	return fmt.Sprintf("Layer %d downloaded", p.Layer)
}

// composeRootfs builds a root file system from a directory, a tar archive or the URL
// of one, as it is.
func (w *Workspace) composeRootfs(ctx context.Context, name, from string) (*rootfs.Tree, error) {
	tree, err := rootfs.New("", w.limit())
	if err != nil {
		return nil, err
	}
	if err := w.addRootfs(ctx, tree, from); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the root file system %s: %w", from, err), tree.Close())
	}
	if tree.Empty() {
		w.notice(name, "WARN: %s: the root file system %s has no files", name, from)
	}
	w.warnPassed(name, tree)
	w.warnForeign(name, from)
	return tree, nil
}

// warnForeign warns of what a directory lacks on systems that cannot have it.
func (w *Workspace) warnForeign(name, from string) {
	path, err := w.expand(from)
	if info, statErr := os.Stat(path); runtime.GOOS == "linux" || isURL(from) || err != nil || statErr != nil || !info.IsDir() {
		return
	}
	lost := "extended attributes"
	if runtime.GOOS == "windows" {
		lost = "modes, owners, devices and extended attributes"
	}
	w.notice(name, "WARN: %s: a directory of %s has no %s of Linux; take an archive made on Linux if it needs them", name, runtime.GOOS, lost)
}

func (w *Workspace) addRootfs(ctx context.Context, tree *rootfs.Tree, from string) error {
	if isURL(from) {
		return w.addURL(ctx, tree, from)
	}
	path, err := w.expand(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "opening it")
	}
	if info.IsDir() {
		return tree.AddDirectory(ctx, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return addArchive(ctx, tree, f)
}

func isURL(from string) bool {
	return strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://")
}

// expand resolves "~" and paths relative to the checkout.
func (w *Workspace) expand(path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the home directory: %w", err)
		}
		return filepath.Join(home, path[1:]), nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(w.Dir, path)
	}
	return path, nil
}

func (w *Workspace) addURL(ctx context.Context, tree *rootfs.Tree, from string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the URL")
	}
	client := &http.Client{Transport: w.Images.Transport}
	resp, err := client.Do(req)
	if err != nil {
		return fault.Wrap(fault.Unreachable, err, "downloading")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fault.New(fault.Unreachable, "downloading: %s", resp.Status)
	}
	body := &counted{r: resp.Body}
	if err := addArchive(ctx, tree, body); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(body, w.limit())); err != nil {
		return fault.Wrap(fault.Unreachable, err, "downloading")
	}
	if resp.ContentLength >= 0 && body.n != resp.ContentLength {
		return fault.New(fault.Unreachable, "downloading: %d of %d bytes arrived", body.n, resp.ContentLength)
	}
	return nil
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// addArchive adds a tar archive, plain or compressed.
func addArchive(ctx context.Context, tree *rootfs.Tree, r io.Reader) error {
	all := &counted{r: r}
	d, err := decompress.Reader(all)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the archive")
	}
	defer d.Close()
	if err := addTar(ctx, tree, d); err != nil {
		return err
	}
	if all.n == 0 {
		return fault.New(fault.BadInput, "the archive is empty")
	}
	return nil
}

// addTar adds a tar archive. It reads the stream to its end, because that is where the
// checksum is.
func addTar(ctx context.Context, tree *rootfs.Tree, in io.Reader) error {
	r := bufio.NewReader(in)
	start, err := r.Peek(tarBlock) // another error comes again from the next read
	if (err == nil || errors.Is(err, io.EOF)) && !startsTar(start) {
		return fault.New(fault.BadInput, "it is not a tar archive; want one, plain or compressed, or a directory")
	}
	if err := tree.AddTar(ctx, r); err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the archive")
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailer)); err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the archive's end")
	}
	return nil
}

const tarBlock = 512

// startsTar reports whether data may be the first block of a tar archive, or nothing at all.
func startsTar(data []byte) bool {
	if len(data) < tarBlock {
		return len(data) == 0
	}
	_, err := tar.NewReader(bytes.NewReader(data)).Next()
	return !errors.Is(err, tar.ErrHeader)
}

const maxTrailer = 64 << 20 // of zeros behind an archive's end

// squash writes a tree into the change as an image.
func (w *Workspace) squash(ctx context.Context, c *change, name, file string, tree *rootfs.Tree, options string) (sum string, err error) {
	f, err := parseFormat(options)
	if err != nil {
		return "", err
	}
	for _, e := range f.excludes {
		tree.Remove(e)
	}
	out, err := c.create(file)
	if err != nil {
		return "", err
	}
	f.squashfs.Cache = w.Blocks
	w.say(name, name+"/"+file, "Generating squashfs file: %s -comp %v", filepath.Join(w.directory(name), file), f.squashfs.Compression)
	if err := tree.WriteSquashfs(ctx, out, f.squashfs, f.normal); err != nil {
		return "", fmt.Errorf("writing %s/%s: %w", name, file, err)
	}
	w.say(name, name+"/"+file, "Generating squashfs digest")
	return fileSum(out.File)
}

func fileSum(f *os.File) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("computing the digest of %s: %w", f.Name(), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

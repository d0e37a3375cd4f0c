package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pantavisor/pantavisor/internal/atomicfile/direct"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// Link creates a hard link to an object. Writing to the link would damage the
// object.
func (s *Store) Link(sum, dst string) error {
	path, err := s.Path(sum)
	if err != nil {
		return err
	}
	if err := os.Link(path, dst); err != nil {
		return fmt.Errorf("linking object: %w", err)
	}
	return nil
}

// Copy writes an object's content to a new file, sharing its blocks where the
// file system can. The content is not verified.
func (s *Store) Copy(sum, dst string, perm os.FileMode) error {
	src, err := s.Open(sum)
	if err != nil {
		return err
	}
	defer src.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return fmt.Errorf("creating a copy of object %s: %w", sum, err)
	}
	err = s.clone(out, src)
	if err = errors.Join(err, out.Chmod(perm), out.Close()); err != nil {
		_ = os.Remove(dst)
		return fmt.Errorf("copying object %s to %s: %w", sum, dst, err)
	}
	return nil
}

// CopyVerified writes an object's content to a new file and hashes it; damaged
// content leaves no file and gives ErrMismatch.
func (s *Store) CopyVerified(ctx context.Context, sum, dst string, perm os.FileMode) error {
	src, err := s.Open(sum)
	if err != nil {
		return err
	}
	defer src.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return fmt.Errorf("creating a copy of object %s: %w", sum, err)
	}
	got, err := s.cloneHash(ctx, out, src)
	if err == nil && got != sum {
		err = fmt.Errorf("%w: got %s", ErrMismatch, got)
	}
	if err = errors.Join(err, out.Chmod(perm), out.Close()); err != nil {
		_ = os.Remove(dst)
		return fmt.Errorf("copying object %s to %s: %w", sum, dst, err)
	}
	return nil
}

// cloneHash shares the blocks of src or copies them, and hashes them.
func (s *Store) cloneHash(ctx context.Context, dst, src *os.File) (sum string, err error) {
	if s.shared(dst, src) {
		sum, _, err = s.hash(ctx, src)
	} else {
		sum, _, err = s.copyHash(ctx, dst, s.reader(src))
	}
	return sum, err
}

// shared shares the blocks of src and reports whether the file system could. After
// one failure it does not try again, because all copies go to one file system.
func (s *Store) shared(dst, src *os.File) bool {
	if s.noClone.Load() {
		return false
	}
	if filecopy.Share(dst, src) == nil {
		return true
	}
	s.noClone.Store(true)
	return false
}

// clone shares the blocks of src, or copies them within the kernel if it can.
func (s *Store) clone(dst, src *os.File) error {
	if s.shared(dst, src) {
		return nil
	}
	if !s.direct {
		_, err := io.Copy(dst, src)
		return err
	}
	buf := direct.Buffer()
	defer direct.Release(buf)
	w := direct.NewWriter(dst)
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s.reader(src)}, *buf)
	return errors.Join(err, w.Flush())
}

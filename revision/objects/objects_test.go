package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pantavisor/pantavisor/revision/state"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "a/objects"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sumOf(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

func put(t *testing.T, s *Store, content string) string {
	t.Helper()
	sum, err := s.Put(context.Background(), strings.NewReader(content), sumOf(content))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// names returns everything in the store's directory.
func names(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestPutAndRead(t *testing.T) {
	s := newStore(t)
	sum := put(t, s, "hello")
	if !s.Has(sum) || sum != sumOf("hello") {
		t.Fatalf("sum %s", sum)
	}
	r, err := s.OpenVerified(sum)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != "hello" {
		t.Errorf("read %q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(s.Dir(), sum)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	put(t, s, "hello")
	put(t, s, "")
	got, err := s.List()
	if diff := cmp.Diff([]string{sumOf("hello"), sumOf("")}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if diff := cmp.Diff(got, names(t, s)); diff != "" {
		t.Errorf("left behind: %s", diff)
	}
}

func TestWrongContentIsNotStored(t *testing.T) {
	s := newStore(t)
	_, err := s.Put(context.Background(), strings.NewReader("evil"), sumOf("good"))
	if !errors.Is(err, ErrMismatch) || len(names(t, s)) != 0 {
		t.Errorf("error %v, store %v", err, names(t, s))
	}
}

type failing struct{ data io.Reader }

func (f failing) Read(p []byte) (int, error) {
	if n, err := f.data.Read(p); err == nil {
		return n, nil
	}
	return 0, io.ErrUnexpectedEOF
}

func TestInterruptedPutLeavesNothing(t *testing.T) {
	s := newStore(t)
	if _, err := s.Put(context.Background(), failing{strings.NewReader("half")}, ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Put(ctx, strings.NewReader("x"), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left := names(t, s); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNamesAreChecked(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"", "../../etc/passwd", strings.Repeat("A", 64), strings.Repeat("a", 63), strings.Repeat("a", 63) + "/", "json"} {
		_, pathErr := s.Path(name)
		_, openErr := s.Open(name)
		errs := []error{pathErr, openErr, s.Link(name, filepath.Join(s.Dir(), "x")), s.Copy(name, filepath.Join(s.Dir(), "x"), 0o600), s.Verify(context.Background(), name), s.Remove(name)}
		if name != "" {
			_, err := s.Put(context.Background(), strings.NewReader(""), name)
			errs = append(errs, err)
		}
		for i, err := range errs {
			if !errors.Is(err, ErrName) {
				t.Errorf("%q: operation %d: %v", name, i, err)
			}
		}
		if s.Has(name) {
			t.Errorf("%q is found", name)
		}
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	s := newStore(t)
	good, bad, short := put(t, s, "good"), put(t, s, "bad"), put(t, s, "short")
	write := func(sum, text string) {
		if err := os.WriteFile(filepath.Join(s.Dir(), sum), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(bad, "BAD")
	write(short, "sho")
	ctx := context.Background()
	if err := s.Verify(ctx, good); err != nil {
		t.Error(err)
	}
	if err := s.Verify(ctx, bad); !errors.Is(err, ErrMismatch) {
		t.Errorf("damaged: %v", err)
	}
	if err := s.Verify(ctx, sumOf("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	// io.Copy takes the quick way when it can; the check must hold there, too.
	r, err := s.OpenVerified(bad)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(&bytes.Buffer{}, r); !errors.Is(err, ErrMismatch) {
		t.Errorf("copied: %v", err)
	}
	put(t, s, "short")
	if err := s.Verify(ctx, short); err != nil {
		t.Errorf("a truncated object is not repaired: %v", err)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	b := s.Batch()
	for i := range 40 {
		if _, err := b.Put(ctx, strings.NewReader(strings.Repeat("x", i%20)), ""); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := s.List(); len(list) != 0 {
		t.Errorf("visible before commit: %v", list)
	}
	b.Abort()
	if left := names(t, s); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	b = s.Batch()
	for i := range 40 {
		if _, err := b.Put(ctx, strings.NewReader(strings.Repeat("x", i%20)), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	b.Abort()
	if left := names(t, s); len(left) != 20 {
		t.Errorf("%d objects of 20", len(left))
	}
}

func TestConcurrentPuts(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	errs := make(chan error, 32)
	for range 32 {
		wg.Go(func() {
			_, err := s.Put(context.Background(), strings.NewReader(strings.Repeat("same", 10000)), "")
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if left := names(t, s); len(left) != 1 {
		t.Errorf("store %v", left)
	}
}

func TestPlacing(t *testing.T) {
	s := newStore(t)
	sum := put(t, s, "content")
	dir := t.TempDir()
	linked, copied := filepath.Join(dir, "linked"), filepath.Join(dir, "copied")
	if err := errors.Join(s.Link(sum, linked), s.Copy(sum, copied, 0o600)); err != nil {
		t.Fatal(err)
	}
	object, _ := os.Stat(filepath.Join(s.Dir(), sum))
	link, _ := os.Stat(linked)
	cp, err := os.Stat(copied)
	if err != nil || !os.SameFile(object, link) || os.SameFile(object, cp) || cp.Mode().Perm() != 0o600 {
		t.Errorf("link %v, copy %v, %v", link, cp, err)
	}
	if data, _ := os.ReadFile(copied); string(data) != "content" {
		t.Errorf("copy holds %q", data)
	}
	if err := s.Copy(sum, copied, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a copy over a file: %v", err)
	}
	if err := s.Link(sum, linked); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a link over a file: %v", err)
	}
}

func TestMissingAndRemove(t *testing.T) {
	s := newStore(t)
	st := state.New(state.Spec)
	have, lost := put(t, s, "have"), sumOf("lost")
	if err := errors.Join(st.SetObject("a", have), st.SetObject("b", lost), st.SetObject("c", lost)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{lost}, s.Missing(st)); diff != "" {
		t.Error(diff)
	}
	if err := errors.Join(s.Remove(have), s.Remove(have)); err != nil || s.Has(have) {
		t.Errorf("remove: %v", err)
	}
}

func TestForeignFilesAreNoObjects(t *testing.T) {
	s := newStore(t)
	sum := sumOf("x")
	if err := errors.Join(os.Mkdir(filepath.Join(s.Dir(), sum), 0o755), os.WriteFile(filepath.Join(s.Dir(), ".batch.tmp-1"), nil, 0o644),
		os.WriteFile(filepath.Join(s.Dir(), "README"), nil, 0o644), os.Symlink("/etc/passwd", filepath.Join(s.Dir(), sumOf("y")))); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(); err != nil || len(list) != 0 || s.Has(sum) || s.Has(sumOf("y")) {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := s.Open(sumOf("y")); err == nil {
		t.Error("a symbolic link is followed")
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left := names(t, s); len(left) != 3 || strings.HasPrefix(left[0], ".") {
		t.Errorf("after sweeping: %v", left)
	}
	if _, err := Open(filepath.Join(s.Dir(), "README")); err == nil {
		t.Error("a file is a store")
	}
	if _, err := Open(filepath.Join(s.Dir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing store: %v", err)
	}
}

// What a killed writer left goes when the next one comes, and never while another
// one is at work.
func TestSweptByTheNextWriter(t *testing.T) {
	s := newStore(t)
	left := filepath.Join(s.Dir(), ".batch.tmp-1")
	leave := func() {
		t.Helper()
		if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	first := s.Batch()
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	sum, err := first.Put(t.Context(), strings.NewReader("first"), "")
	if err != nil {
		t.Fatal(err)
	}
	leave()
	put(t, s, "second")
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); err != nil {
		t.Errorf("swept while somebody writes: %v", err)
	}
	if err := first.Commit(); err != nil || !s.Has(sum) {
		t.Errorf("the first writer lost its file: %v", err)
	}
	first.Abort()
	put(t, s, "third")
	if diff := cmp.Diff([]string{sumOf("third"), sumOf("first"), sumOf("second")}, names(t, s), cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Error(diff)
	}
}

// Large objects go round the page cache with the same result.
func TestDirect(t *testing.T) {
	s := newStore(t).Direct()
	text := make([]byte, 3<<20+777)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(text)
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, text, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := s.Batch()
	defer b.Abort()
	sum, err := b.PutFile(t.Context(), f, sumOf(string(text)))
	if err = errors.Join(err, b.Commit(), s.Verify(t.Context(), sum)); err != nil {
		t.Fatal(err)
	}
	for i, place := range []func(dst string) error{
		func(dst string) error { return s.Copy(sum, dst, Perm) },
		func(dst string) error { return s.CopyVerified(t.Context(), sum, dst, Perm) },
	} {
		dst := filepath.Join(t.TempDir(), "dst")
		if err := place(dst); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d: %d bytes, %v", i, len(got), err)
		}
	}
}

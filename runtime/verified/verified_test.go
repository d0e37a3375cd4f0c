package verified

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// markable makes a file with content whose file system takes marks, and returns its digest.
func markable(t *testing.T) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "object")
	write(t, path, "content")
	if err := unix.Setxattr(path, attr, []byte("x"), 0); err != nil {
		t.Skipf("no attributes in the trusted name space here: %v", err)
	}
	h := sha256.Sum256([]byte("content"))
	return path, hex.EncodeToString(h[:])
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// check verifies a file and returns how often it was hashed.
func check(t *testing.T, m *Marks, path, sum string) (hashed int) {
	t.Helper()
	if err := m.Check(path, sum, func() error { hashed++; return nil }); err != nil {
		t.Fatal(err)
	}
	return hashed
}

func TestMarkSurvivesTheProcess(t *testing.T) {
	t.Parallel()
	path, sum := markable(t)
	if n := check(t, new(Marks), path, sum); n != 1 {
		t.Errorf("at first it is hashed %d times", n)
	}
	if err := os.Link(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	if n := check(t, new(Marks), path, sum); n != 0 {
		t.Errorf("after a link and a new process it is hashed %d times", n)
	}
}

// TestWhatEndsAMark changes a marked file in each of the ways in which its content may have changed.
func TestWhatEndsAMark(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, path string) string{
		"another time": func(t *testing.T, path string) string {
			t.Helper()
			if err := os.Chtimes(path, time.Time{}, time.Unix(1, 2)); err != nil {
				t.Error(err)
			}
			return path
		},
		"another size": func(t *testing.T, path string) string {
			t.Helper()
			st, err := os.Stat(path)
			if err = errors.Join(err, os.Truncate(path, 3), os.Chtimes(path, time.Time{}, st.ModTime())); err != nil {
				t.Error(err)
			}
			return path
		},
		"a copy with its attributes": func(t *testing.T, path string) string {
			t.Helper()
			st, err := os.Stat(path)
			var value [markSize]byte
			_, err2 := unix.Getxattr(path, attr, value[:])
			other := path + ".copy"
			write(t, other, "damaged")
			err = errors.Join(err, err2, os.Chtimes(other, time.Time{}, st.ModTime()), unix.Setxattr(other, attr, value[:], 0))
			if err != nil {
				t.Error(err)
			}
			return other
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, sum := markable(t)
			check(t, new(Marks), path, sum)
			if n := check(t, new(Marks), change(t, path), sum); n != 1 {
				t.Errorf("it is hashed %d times", n)
			}
		})
	}
	path, sum := markable(t)
	check(t, new(Marks), path, sum)
	if n := check(t, new(Marks), path, strings.Repeat("0", 64)); n != 1 {
		t.Errorf("under another object's name it is hashed %d times", n)
	}
}

// TestStrictDoesNotTrustTheMedium has a mark that somebody with the medium in hand made.
func TestStrictDoesNotTrustTheMedium(t *testing.T) {
	t.Parallel()
	path, sum := markable(t)
	check(t, new(Marks), path, sum)
	strict := &Marks{Strict: true}
	if strict.Has(path, sum) {
		t.Error("the mark counts")
	}
	if n := check(t, strict, path, sum); n != 1 {
		t.Errorf("in this boot it is hashed %d times", n)
	}
	if n := check(t, strict, path, sum); n != 0 {
		t.Errorf("and once more %d times", n)
	}
	if n := check(t, &Marks{Strict: true}, path, sum); n != 1 {
		t.Errorf("in the next boot it is hashed %d times", n)
	}
}

func TestDamageIsNotRemembered(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "object")
	write(t, path, "damaged")
	m := &Marks{Strict: true}
	damaged := errors.New("damaged")
	if err := m.Check(path, "00", func() error { return damaged }); !errors.Is(err, damaged) || m.Has(path, "00") {
		t.Errorf("a check that fails: %v", err)
	}
	if err := m.Check(path+".none", "00", func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "object")
	write(t, path, "content")
	m := &Marks{Strict: true, memory: map[[markSize]byte]bool{}}
	for i := range maxRemembered {
		m.memory[[markSize]byte{byte(i), byte(i >> 8), 1}] = true
	}
	if check(t, m, path, "00"); len(m.memory) != 1 || !m.Has(path, "00") {
		t.Errorf("%d files are remembered", len(m.memory))
	}
}

package bounded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("four"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(path, 4); string(b) != "four" || err != nil {
		t.Errorf("at its limit: %q, %v", b, err)
	}
	if b, err := ReadFile(path, 3); b != nil || !errors.Is(err, LimitError(3)) || !strings.HasSuffix(err.Error(), "more than 3 bytes") {
		t.Errorf("above its limit: %q, %v", b, err)
	}
	if _, err := ReadFile(path+".none", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadRegular(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("four"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		file: nil, pipe: errIrregular, dir: errIrregular, os.DevNull: errIrregular, file + ".none": fs.ErrNotExist,
	} {
		if _, err := ReadRegular(path, 4); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if _, err := ReadRegular(file, 3); !errors.Is(err, LimitError(3)) {
		t.Errorf("above its limit: %v", err)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	if b, err := Read(strings.NewReader("four"), 4); string(b) != "four" || err != nil {
		t.Errorf("at its limit: %q, %v", b, err)
	}
	if b, err := Read(strings.NewReader("fours"), 4); b != nil || err == nil {
		t.Errorf("above its limit: %q, %v", b, err)
	}
	broken := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("four")))
	if b, err := Read(broken, 4); b != nil || !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that breaks: %q, %v", b, err)
	}
}

package space

import (
	"errors"
	"math"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is a file system with 4 KiB blocks; reserved is what it keeps free for others.
type disk struct {
	mu             sync.Mutex
	free, reserved int64
}

func (d *disk) usage() (Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Usage{Total: 1 << 40, Free: d.free + Own, Reserved: d.reserved, Block: 4096}, nil
}

func (d *disk) write(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free -= n
}

func full(t *testing.T, err error, required, available int64) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || *e != (Error{required, available}) {
		t.Errorf("got %v, want %v", err, &Error{required, available})
	}
}

func TestAnnouncedUploadsShareTheSpace(t *testing.T) {
	t.Parallel()
	d := &disk{free: 30<<20 + 5<<20, reserved: 5 << 20}
	l := NewLedger(d.usage)
	first, err := l.Reserve(20 << 20)
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Reserve(10<<20 + 1)
	full(t, err, 10<<20+4096, 10<<20)
	second, err := l.Reserve(10 << 20)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := first.Use(1 << 20); err != nil {
			t.Fatal(err)
		}
		d.write(1 << 20)
	}
	first.Release()
	_, err = l.Reserve(1)
	full(t, err, 4096, 0)
	second.Release()
	second.Release()
	if r, err := l.Reserve(10 << 20); err != nil {
		t.Errorf("after all: %v", err)
	} else {
		r.Release()
	}
	if l.promised != 0 {
		t.Errorf("%d bytes are still promised", l.promised)
	}
}

// TestGrowingUploadStopsBeforeTheReserve writes uploads of unknown size beside one that was
// announced, and one that is larger than announced.
func TestGrowingUploadStopsBeforeTheReserve(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"unknown": -1, "too small": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &disk{free: 64<<20 + 8<<20, reserved: 8 << 20}
			l := NewLedger(d.usage)
			other, err := l.Reserve(16 << 20)
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.Reserve(size)
			if err != nil {
				t.Fatal(err)
			}
			var written int64
			for err = r.Use(1 << 16); err == nil; err = r.Use(1 << 16) {
				d.write(1 << 16)
				written += 1 << 16
			}
			if _, ok := errors.AsType[*Error](err); !ok || written > 48<<20 || written < 48<<20-2*step {
				t.Errorf("%d bytes were written until %v", written, err)
			}
			r.Release()
			if l.promised != other.left {
				t.Errorf("%d bytes are promised, want %d", l.promised, other.left)
			}
		})
	}
}

func TestUploadStopsWhenOthersFillTheStorage(t *testing.T) {
	t.Parallel()
	d := &disk{free: 100 << 20}
	r, err := NewLedger(d.usage).Reserve(50 << 20)
	if err != nil {
		t.Fatal(err)
	}
	d.write(98 << 20) // a container's
	var used int64
	for err = r.Use(1 << 20); err == nil && used < 50<<20; err = r.Use(1 << 20) {
		used += 1 << 20
	}
	if used > step {
		t.Errorf("%d bytes were used until %v", used, err)
	}
	full(t, err, step, 2<<20)
}

func TestUsageOfAFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Of(dir+"/none", 5); !errors.Is(err, unix.ENOENT) {
		t.Errorf("of a directory that does not exist: %v", err)
	}
	u, err := Of(dir, 10)
	if err != nil || u.Total <= 0 || u.Free > u.Total || u.Reserved != u.Total/100*10 || u.Block <= 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if (Usage{Free: 5}).Available() != math.MaxInt64 || (Usage{Total: 9, Free: 5}).Available() != 0 {
		t.Error("a file system without a size, or one that is smaller than the reserve, has other limits")
	}
	if got := (Usage{Block: 4096}).Blocks(math.MaxInt64 - 1); got != math.MaxInt64 {
		t.Errorf("blocks of the largest size: %d", got)
	}
}

package power

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// event is one struct input_event of this machine.
func event(typ, code uint16, value uint32) []byte {
	b := make([]byte, eventSize)
	binary.NativeEndian.PutUint16(b[eventSize-8:], typ)
	binary.NativeEndian.PutUint16(b[eventSize-6:], code)
	binary.NativeEndian.PutUint32(b[eventSize-4:], value)
	return b
}

func TestReadEvents(t *testing.T) {
	tests := []struct {
		name   string
		events [][]byte
		want   int
	}{
		{"press and release", [][]byte{event(evKey, keyPower, 1), event(0, 0, 0), event(evKey, keyPower, 0)}, 1},
		{"key repeat", [][]byte{event(evKey, keyPower, 1), event(evKey, keyPower, 2), event(evKey, keyPower, 2)}, 1},
		{"two presses", [][]byte{event(evKey, keyPower, 1), event(evKey, keyPower, 0), event(evKey, keyPower, 1)}, 2},
		{"another key", [][]byte{event(evKey, 30, 1)}, 0},
		{"no key", [][]byte{event(4, keyPower, 1)}, 0},
		{"half an event", [][]byte{event(evKey, keyPower, 1)[:eventSize-1]}, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := 0
			readEvents(bytes.NewReader(bytes.Join(tc.events, nil)), func() { got++ })
			if got != tc.want {
				t.Errorf("%d presses, want %d", got, tc.want)
			}
		})
	}
}

func TestOtherFilesAreNoButtons(t *testing.T) {
	path := filepath.Join(t.TempDir(), "event0")
	if err := os.WriteFile(path, event(evKey, keyPower, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &buttons{open: map[string]*os.File{}, pressed: func() { t.Error("a file was taken for a button") }}
	b.add(path)
	b.add(filepath.Join(t.TempDir(), "missing"))
	if len(b.open) != 0 {
		t.Errorf("reading %v", b.open)
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, filepath.Join(t.TempDir(), "input"), func(string) {}, func() {}) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestWatchNeedsADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Watch(t.Context(), file, func(string) {}, func() {}); err == nil {
		t.Error("a file was watched as a directory")
	}
}

package client

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/peer"
)

func TestToolsFindTheSocketOfTheirInstallation(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(exe), HostedSocket) // beside this test's own program
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := FindSocket(); got == path {
		t.Error("a file is taken for a socket")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := peer.Listen(path, 0o600, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if got := FindSocket(); got != path {
		t.Errorf("found %q, want %s", got, path)
	}
}

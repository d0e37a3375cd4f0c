package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

const written = `{
    "spec": "1",
    "tokens": {
        "https://h/auth realm=r": {
            "Name": "",
            "access-token": "T",
            "refresh-token": "T"
        }
    }
}`

func TestTokensFile(t *testing.T) {
	t.Parallel()
	tokens := newTokens(filepath.Join(t.TempDir(), "new", "dir"))
	if err := tokens.Put(t.Context(), "https://h/auth realm=r", "T"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(tokens.Path())
	if diff := cmp.Diff(written, string(data)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for path, want := range map[string]os.FileMode{tokens.Path(): 0o600, filepath.Dir(tokens.Path()): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := tokens.Delete(t.Context(), "https://h/auth realm=r"); err != nil {
		t.Fatal(err)
	}
	if keys, err := tokens.Keys(); err != nil || len(keys) != 0 {
		t.Errorf("%q, %v", keys, err)
	}
}

// A file of another tool, or damaged, is not overwritten.
func TestTokensDamaged(t *testing.T) {
	t.Parallel()
	tokens := newTokens(t.TempDir())
	if err := os.WriteFile(tokens.Path(), []byte(`{"spec"`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := tokens.Put(t.Context(), "k", "T")
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "log in again") {
		t.Errorf("%v", err)
	}
	if data, _ := os.ReadFile(tokens.Path()); string(data) != `{"spec"` {
		t.Errorf("overwritten by %q", data)
	}
}

// Two processes that keep tokens at the same time lose none.
func TestTokensOfTwoProcesses(t *testing.T) {
	t.Parallel()
	const each = 50
	if dir := os.Getenv("REMOTE_TEST_TOKENS"); dir != "" {
		tokens, who := newTokens(dir), os.Getenv("REMOTE_TEST_WHO")
		for i := range each {
			if err := tokens.Put(t.Context(), fmt.Sprintf("http://%s/auth realm=%d", who, i), "T"); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	dir := t.TempDir()
	var running []*exec.Cmd
	for _, who := range []string{"a", "b"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTokensOfTwoProcesses$")
		cmd.Env = append(os.Environ(), "REMOTE_TEST_TOKENS="+dir, "REMOTE_TEST_WHO="+who)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if keys, err := newTokens(dir).Keys(); err != nil || len(keys) != 2*each {
		t.Errorf("%d tokens, %v", len(keys), err)
	}
}

// Who waits for the lock can be interrupted.
func TestTokensLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held, err := filelock.Try(filepath.Join(dir, ".auth.lock"), filelock.Options{Create: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newTokens(dir).Put(ctx, "k", "T"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	held.Unlock()
	if err := newTokens(dir).Put(t.Context(), "k", "T"); err != nil {
		t.Error(err)
	}
}

package filesig

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSignatureAndSettled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	look := func() os.FileInfo {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if err := os.WriteFile(path, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	one := look()
	if Of(one) != Of(look()) {
		t.Error("the signature of an unchanged file changes")
	}
	if now := time.Now(); Settled(one, now) || !Settled(one, now.Add(3*time.Second)) {
		t.Error("a file is settled two seconds after it was written, not before")
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if Settled(look(), time.Now()) {
		t.Error("an old modification time hides a new change time")
	}
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if Of(one) == Of(look()) {
		t.Error("two files have one signature")
	}
}

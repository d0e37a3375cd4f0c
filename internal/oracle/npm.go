package oracle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/cachedir"
)

// NPM returns a file of a package of npm, NAME@VERSION, which is fetched once. The digest is that of the
// package, SHA-512 in base64, as the registry has it. Without npm the test is skipped; see [Program].
func NPM(t TB, pack, digest, file string) []byte {
	t.Helper()
	cache, err := cachedir.Find()
	if err != nil {
		t.Fatalf("%v", err)
	}
	dir := filepath.Join(cache, "npm")
	// npm names the archive of @SCOPE/NAME@VERSION SCOPE-NAME-VERSION.tgz.
	path := filepath.Join(dir, strings.NewReplacer("@", "-", "/", "-").Replace(strings.TrimPrefix(pack, "@"))+".tgz")
	data, err := os.ReadFile(path)
	if err != nil {
		npm := Program(t, "npm")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatalf("%v", err)
		}
		if out, err := exec.Command(npm, "pack", "--silent", "--pack-destination", dir, pack).CombinedOutput(); err != nil {
			t.Fatalf("npm cannot fetch %s: %v: %s", pack, err, out)
		}
		if data, err = os.ReadFile(path); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if sum := sha512.Sum512(data); base64.StdEncoding.EncodeToString(sum[:]) != digest {
		t.Fatalf("%s is not %s", path, pack)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %s: %v", path, file, err)
		}
		if head.Name == "package/"+file {
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatalf("%s: %s: %v", path, file, err)
			}
			return text
		}
	}
}

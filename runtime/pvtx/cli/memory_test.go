package cli

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// zeros is a file that is never in memory.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestMemoryDoesNotGrowWithObjects: an object of 64 MiB, over the socket and to a
// directory, takes as little memory as one of any size.
func TestMemoryDoesNotGrowWithObjects(t *testing.T) { // not parallel: it counts what is allocated
	const size = 64 << 20
	h := sha256.New()
	if _, err := io.CopyN(h, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	w := newWorld(t)
	w.serve(w.state())
	for _, begin := range [][]string{{"begin", "empty"}, {"begin", "empty", w.path("objects")}} {
		w.ok(begin...)
		r, pipe := io.Pipe()
		go func() {
			tw := tar.NewWriter(pipe)
			doc := `{"#spec":"pantavisor-service-system@1","big/file":"` + sum + `"}`
			errs := tw.WriteHeader(&tar.Header{Name: "json", Size: int64(len(doc)), Mode: 0o644})
			_, err := io.WriteString(tw, doc)
			errs = errors.Join(errs, err, tw.WriteHeader(&tar.Header{Name: "objects/" + sum, Size: size, Mode: 0o644}))
			_, err = io.CopyN(tw, zeros{}, size)
			_ = pipe.CloseWithError(errors.Join(errs, err, tw.Close()))
		}()
		before := allocated()
		var bad strings.Builder
		tl := &tool{ctx: t.Context(), stdin: r, stdout: io.Discard, stderr: &bad, getenv: func(name string) string { return w.env[name] }}
		if code := tl.main([]string{"add", "-"}); code != 0 {
			t.Fatalf("exit %d, %s", code, &bad)
		}
		if used := allocated() - before; used > 4<<20 {
			t.Errorf("%v: %d bytes of memory", begin, used)
		}
	}
}

// allocated returns how much memory was ever taken, an upper bound of what is used.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

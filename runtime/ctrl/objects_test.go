package ctrl

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/space"
)

// zeros is an endless source of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// zeroSum returns the digest of n zeros.
func zeroSum(tb testing.TB, n int64) string {
	tb.Helper()
	h := sha256.New()
	if _, err := io.CopyN(h, zeros{}, n); err != nil {
		tb.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// dialSocket is dial over a unix socket, as clients of a device use it.
func dialSocket(tb testing.TB, s *Server) *net.UnixConn {
	tb.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(tb.TempDir(), "s")})
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	client, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		tb.Fatal(err)
	}
	server, err := l.AcceptUnix()
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.ServeConn(tb.Context(), server, *asMgmt)
	}()
	tb.Cleanup(func() { _ = client.Close(); <-ended })
	return client
}

// sendObject sends n bytes of zeros as an object and returns the answer.
func sendObject(tb testing.TB, conn io.ReadWriter, name string, n int64) *response {
	tb.Helper()
	go func() {
		_, _ = fmt.Fprintf(conn, "PUT /objects/%s HTTP/1.1\r\nContent-Length: %d\r\n\r\n", name, n)
		_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, io.LimitReader(zeros{}, n), make([]byte, 128<<10))
	}()
	r, err := readResponse(bufio.NewReader(conn), "PUT")
	if err != nil || r == nil {
		tb.Fatalf("the answer is %v, %v", r, err)
	}
	return r
}

// fixed is a file system with so much free space beside what the runtime needs itself.
func fixed(free int64) *space.Ledger {
	return space.NewLedger(func() (space.Usage, error) {
		return space.Usage{Total: 1 << 40, Free: free + space.Own, Block: 1}, nil
	})
}

// TestParallelUploadsShareTheSpace announces two objects that fit only one at a time.
func TestParallelUploadsShareTheSpace(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, newFake())
	s.o.Space = fixed(100)
	name := strings.Repeat("0", 64)
	first := dial(t, s, asMgmt)
	head := "PUT /objects/" + name + " HTTP/1.1\r\nContent-Length: 60\r\nExpect: 100-continue\r\n\r\n"
	if _, err := io.WriteString(first, head); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("the first: %q, %v", line, err)
	}
	second := roundTrip(t, dial(t, s, asMgmt), head, "PUT")
	if want := `{"Error":"Not enough disk space available","Details":["Space required 60 B, available 40 B"]}`; !strings.Contains(second.line, "507") || second.body != want {
		t.Errorf("the second: %+v, want %s", second, want)
	}
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/x", `{"#spec":"pantavisor-service-system@1"}`); !strings.Contains(r.line, "200") {
		t.Errorf("a small state: %+v", r)
	}
}

// TestVerifiedObjectIsNotHashedAgain changes an object behind the mark's back.
func TestVerifiedObjectIsNotHashedAgain(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, newFake())
	name := zeroSum(t, 5000)
	if r := sendObject(t, dialSocket(t, s), name, 5000); !strings.Contains(r.line, "200") {
		t.Fatalf("%+v", r)
	}
	path := filepath.Join(s.o.Objects, name)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 5000)), 0o644); err != nil {
		t.Fatal(err)
	}
	if s.haveObject(name) {
		t.Error("an object that has changed counts as verified")
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if !s.haveObject(name) {
		t.Error("a verified object was hashed again")
	}
}

// TestUploadLeavesTheReserve fills a small disk by uploads of every kind at once.
func TestUploadLeavesTheReserve(t *testing.T) {
	s := newTestServer(t, newFake())
	dir := t.TempDir()
	s.storeIn(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	const percent = 25
	s.o.Space = space.NewLedger(func() (space.Usage, error) { return space.Of(dir, percent) })
	var all sync.WaitGroup
	for i := range 8 {
		conn := dialSocket(t, s)
		all.Go(func() {
			if i%2 == 0 {
				_, _ = fmt.Fprintf(conn, "PUT /objects/%064x HTTP/1.1\r\nContent-Length: %d\r\n\r\n", i, 20<<20)
				_, _ = io.CopyN(conn, zeros{}, 20<<20)
			} else {
				_, _ = fmt.Fprintf(conn, "PUT /objects/%064x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", i, 1<<30)
				_, _ = io.CopyN(conn, zeros{}, 1<<30)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	least := int64(1 << 40)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		u, err := space.Of(dir, percent)
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, u.Free-u.Reserved)
	}
	if least < space.Own/2 || least > 40<<20 {
		t.Errorf("the least that was free beside the reserve were %d bytes", least)
	}
}

// BenchmarkObjectPut stores an object of 256 MiB over a unix socket; the processor time is
// that of the client too, which only writes zeros.
func BenchmarkObjectPut(b *testing.B) {
	const size = 256 << 20
	name := zeroSum(b, size)
	s := New(Options{})
	s.storeIn(inMemory(b))
	b.SetBytes(size)
	before := cpuTime(b)
	for b.Loop() {
		if r := sendObject(b, dialSocket(b, s), name, size); !strings.Contains(r.line, "200") {
			b.Fatalf("%+v", r)
		}
		if err := os.Remove(filepath.Join(s.o.Objects, name)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuTime(b)-before)/(float64(size)*float64(b.N)/1e9), "cpu-s/GB")
}

// inMemory returns a directory in memory.
func inMemory(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "objects")
	if err != nil {
		tb.Skipf("no directory in memory: %v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// cpuTime returns the processor time of this process in seconds.
func cpuTime(tb testing.TB) float64 {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// TestLargeObjects stores objects whose sizes do not fit into 31 and 32 bits.
func TestLargeObjects(t *testing.T) {
	if testing.Short() {
		t.Skip("it hashes 6 GiB")
	}
	dir := t.TempDir()
	if u, err := space.Of("/dev/shm", 0); err == nil && u.Free > 8<<30 {
		dir = inMemory(t)
	}
	if u, err := space.Of(dir, 0); err != nil || u.Free < 5<<30 {
		t.Skipf("%d bytes are free in %s, %v", u.Free, dir, err)
	}
	s := New(Options{})
	s.storeIn(dir)
	for size, name := range map[int64]string{ // of zeros, as sha256sum says
		2<<30 + 1: "b8030a8ab89280935633d8d991da3d9907c0f12e8b6fc3bfc515f4d440872b6e",
		4<<30 + 1: "fbb82f7b353676bb562eb82157fcf0ea42c36492ca13ee56dbf82c08b6802c5c",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := sendObject(t, dialSocket(t, s), name, size)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; !strings.Contains(r.line, "200") || used > 16<<20 {
			t.Errorf("an object of %d bytes: %+v; it took %d bytes of memory", size, r, used)
		}
		path := filepath.Join(s.o.Objects, name)
		if st, err := os.Stat(path); err != nil || st.Size() != size {
			t.Errorf("of %d bytes are stored %v, %v", size, st, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

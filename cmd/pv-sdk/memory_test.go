package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What a large upload has, and the digest of that many zeros (sha256sum).
const (
	largeSize   = 2 << 30
	largeSum    = "a7c744c13cc101ed66c29f672f92455547889cc586ce6d44fe76ae824958ea51"
	largeMemory = 16 << 10 // KiB that the server may have at any time, its own text included
)

// TestMemory sends 2 GiB in an export, and as an object of pvr, and wants the server to
// hold little of it.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "pv-web")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	received := device(t, filepath.Join(dir, "pv-ctrl"))
	url, pid := start(t, program, "-listen", "127.0.0.1:0", "-s", filepath.Join(dir, "pv-ctrl"), "-transaction", filepath.Join(dir, "tx"), "-config", filepath.Join(dir, "none"))
	send(t, "POST", url+"/cgi-bin/pvtx/begin", strings.NewReader(""), 0)
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(export(w)) }()
	send(t, "PUT", url+"/cgi-bin/pvtx/add", r, -1)
	var record struct {
		Put string `json:"signed-puturl"`
	}
	announced := send(t, "POST", url+"/cgi-bin/pvr/objects/", strings.NewReader(fmt.Sprintf(`{"sha256sum":%q,"size":"%d"}`, largeSum, int64(largeSize))), -1)
	if err := json.Unmarshal(announced, &record); err != nil {
		t.Fatal(err)
	}
	send(t, "PUT", record.Put, io.LimitReader(zeros{}, largeSize), largeSize)
	if got := received.Load(); got != 2*largeSize {
		t.Fatalf("the device got %d bytes", got)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	peak, err := strconv.Atoi(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(string(status))[1])
	if err != nil || peak > largeMemory {
		t.Errorf("the server had %d KiB (%v); %d are allowed", peak, err, largeMemory)
	}
	t.Logf("peak of the resident memory: %d KiB", peak)
}

// device answers at a control socket for a device that takes every object, and counts their bytes.
func device(t *testing.T, socket string) *atomic.Int64 {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var received atomic.Int64
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/objects/"):
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				t.Error(err)
			}
			received.Add(n)
		case r.URL.Path == "/objects":
			_, _ = io.WriteString(w, "[]")
		default:
			_, _ = io.WriteString(w, `{"#spec":"pantavisor-service-system@1"}`)
		}
	})}
	go func() { _ = s.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = s.Close() })
	return &received
}

// start starts the program and returns its address.
func start(t *testing.T, program string, args ...string) (url string, pid int) {
	t.Helper()
	cmd := exec.Command(program, args...)
	r, w := io.Pipe()
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the end of the server: %v", err)
		}
	})
	found := make(chan string, 1)
	go func() {
		buf := make([]byte, 4096)
		for text := ""; ; {
			n, err := r.Read(buf)
			if err != nil {
				return
			}
			if text += string(buf[:n]); len(found) == 0 {
				if m := regexp.MustCompile(`listening on (http://[^/]+)/app/\n`).FindStringSubmatch(text); m != nil {
					found <- m[1]
				}
			}
		}
	}()
	select {
	case url := <-found:
		return url, cmd.Process.Pid
	case <-time.After(time.Minute):
		t.Fatal("the server does not say where it listens")
	}
	return "", 0
}

// send sends a request that must succeed; the size is -1 for one that is not known.
func send(t *testing.T, method, url string, body io.Reader, size int64) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if size > 0 {
		req.ContentLength = size
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s (%v)", method, url, resp.StatusCode, text, err)
	}
	return text
}

// export writes an export with one object.
func export(w io.Writer) error {
	t := tar.NewWriter(w)
	state := fmt.Sprintf(`{"#spec":"pantavisor-service-system@1","app/root.squashfs":%q}`, largeSum)
	for _, m := range []struct {
		name string
		size int64
		from io.Reader
	}{{"json", int64(len(state)), strings.NewReader(state)}, {"objects/" + largeSum, largeSize, io.LimitReader(zeros{}, largeSize)}} {
		if err := t.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: m.size}); err != nil {
			return err
		}
		if _, err := io.Copy(t, m.from); err != nil {
			return err
		}
	}
	return t.Close()
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

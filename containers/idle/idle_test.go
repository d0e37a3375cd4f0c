package idle

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// role tells a process of this test binary that it is the first process of a container.
const role = "PV_TEST_IDLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) != "" {
		if err := first(); err != nil {
			log.Fatal(err)
		}
		return
	}
	os.Exit(m.Run())
}

// first takes over the orphans of a shell and collects them.
func first() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "true & true & sleep 0.1 & exit 0"}, &os.ProcAttr{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for children() != "" {
			time.Sleep(10 * time.Millisecond)
		}
	}()
	Collect(ctx)
	return nil
}

// children lists the children of all threads.
func children() string {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	var all strings.Builder
	for _, f := range files {
		text, _ := os.ReadFile(f)
		all.Write(text)
	}
	return all.String()
}

// TestCollect ends when no process is left, not even one that has ended.
func TestCollect(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), role+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSignalReady signals again until the runtime has seen the container start.
func TestSignalReady(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "pv-ctrl")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.Path+" "+string(body))
		if len(got) < 3 {
			http.Error(w, `{"Error":"Signal not expected from this platform"}`, http.StatusInternalServerError)
		}
	})}}
	s.Start()
	defer s.Close()
	var said bytes.Buffer
	log.SetOutput(&said)
	defer log.SetOutput(os.Stderr)
	if err := SignalReady(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	const one = `POST /signal {"type":"ready","payload":""}`
	if diff := cmp.Diff([]string{one, one, one}, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(said.String(), "500") || !strings.Contains(said.String(), "Signal not expected") {
		t.Errorf("log: %s", said.String())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := SignalReady(ended, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("signalled to nobody")
	}
}

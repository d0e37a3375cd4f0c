package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProcessTimeGrows(t *testing.T) {
	before, err := processTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for now := before; now <= before; {
		if now, err = processTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := processTime(1<<22 + 1); err == nil {
		t.Error("a process that cannot be has used time")
	}
}

func TestGroupTimeNeedsAGroup(t *testing.T) {
	prefix := t.TempDir()
	if _, err := groupTime(prefix); err == nil {
		t.Error("no instance, but a time")
	}
	if err := os.MkdirAll(filepath.Join(prefix, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(prefix, "run/pv.json"), []byte(`{"pid":1,"cgroup":"/pantavisor/none","made":true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := groupTime(prefix); err == nil || !strings.Contains(err.Error(), "/pantavisor/none has no cpu.stat") {
		t.Errorf("%v", err)
	}
}

func TestInstanceThatCannotRunIsTold(t *testing.T) {
	prefix := t.TempDir()
	if _, err := startInstance(context.Background(), prefix); err == nil {
		t.Error("no program, but a sample")
	}
	script := "#!/bin/sh\necho nothing of interest\n"
	if err := os.WriteFile(filepath.Join(prefix, "pantavisor"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if s, err := startInstance(context.Background(), prefix); err == nil || s.wall != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestStopTimeWaitsForStopped asks a socket that says STOPPING twice before.
func TestStopTimeWaitsForStopped(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked, stopped := 0, ""
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			stopped = r.URL.Path
			return
		}
		asked++
		status := map[bool]string{true: "STOPPED", false: "STOPPING"}[asked > 2]
		fmt.Fprintf(w, `[{"name":"other","status":"STOPPED"},{"name":"app","status":%q}]`, status)
	})}
	go srv.Serve(l)
	defer srv.Close()
	if ms, err := stopTime(t.Context(), socket, "app"); err != nil || ms <= 0 || asked != 3 || stopped != "/containers/app" {
		t.Errorf("%v ms, %v, asked %d times, stopped %s", ms, err, asked, stopped)
	}
	srv.Handler = http.NotFoundHandler()
	if _, err := stopTime(t.Context(), socket, "app"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a refused stop: %v", err)
	}
}

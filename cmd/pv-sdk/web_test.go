package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWebHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := runWeb(t.Context(), []string{"--help"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, want := range []string{"Usage: pv-web", "/app/", "127.0.0.1:12368", "pvrskd_httpd_listen", "-init"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help lacks %q: %s", want, &out)
		}
	}
	if err := runWeb(t.Context(), []string{"x"}, io.Discard); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Error(err)
	}
}

// lines sends what is logged to a channel.
type lines chan string

// Write implements io.Writer.
func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestServe starts the server where the kernel's command line says, without a device, and
// ends it.
func TestServe(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out := make(lines, 100)
	log.SetOutput(out)
	defer log.SetOutput(os.Stderr)
	config := file("config.json", `{"httpd":{"listen":"off"}}`)
	if err := runWeb(t.Context(), []string{"-config", config, "-cmdline", file("cmdline", "quiet")}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := <-out; !strings.Contains(got, "wants no web server") {
		t.Errorf("off: %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- runWeb(ctx, []string{"-listen", "0.0.0.0:0", "-config", config, "-cmdline", file("cmdline", "quiet"), "-s", filepath.Join(t.TempDir(), "none")}, io.Discard)
	}()
	if got := <-out; !strings.Contains(got, "Everybody in the network") {
		t.Errorf("the log warns %q", got)
	}
	_, url, found := strings.Cut(strings.TrimSpace(<-out), "listening on ")
	if !found {
		t.Fatal("the log does not say where the server listens")
	}
	resp, err := http.Get(url)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = resp.Body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

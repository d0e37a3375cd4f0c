package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/ci/catalogue"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// newCatalogue makes a catalogue with releases of a board, the last with a key, and returns its
// directory and the image.
func newCatalogue(t *testing.T, key *signing.Key, versions ...string) (string, []byte) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "catalogue")
	s, err := store.Open(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for i, version := range versions {
		dir := filepath.Join(t.TempDir(), version)
		data = newImage(t, dir, "board.img")
		x := releases.Index{Format: releases.IndexFormat, Target: "board", Version: version}
		files := []attest.File{{Name: "board.img"}, {Name: "board.img.bmap"}}
		if err := attest.Digest(t.Context(), dir, files); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(filepath.Join(dir, f.Name))
			if err != nil {
				t.Fatal(err)
			}
			x.Add(f.Name, info.Size(), f.SHA256)
		}
		text, err := x.Text()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, releases.IndexName), text, 0o600); err != nil {
			t.Fatal(err)
		}
		all := append(files, attest.File{Name: releases.IndexName})
		if err := attest.Digest(t.Context(), dir, all); err != nil {
			t.Fatal(err)
		}
		if i < len(versions)-1 {
			err = attest.List(dir, all)
		} else {
			var statement *attest.Statement
			if statement, err = attest.NewStatement(&build.Report{Target: "board", Recipe: &build.Recipe{}}, files, attest.Origin{}); err == nil {
				_, err = attest.Sign(dir, key, all, statement, "board")
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := catalogue.Add(t.Context(), s, catalogue.AddOptions{}, []string{dir}); err != nil {
			t.Fatal(err)
		}
	}
	return to, data
}

func TestFlashFromCatalogue(t *testing.T) {
	w, _ := empty(t)
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	file, public := pairOfKeys(t, w.Root, "key", true)
	key, err := signing.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, data := newCatalogue(t, key, "1.9", "1.11-rc1", "1.10")
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".img") {
			asked++
		}
		http.FileServer(http.Dir(dir)).ServeHTTP(rw, r)
	}))
	defer server.Close()
	for _, c := range []struct {
		o    FlashOptions
		want string
		kind fault.Kind
	}{
		{FlashOptions{From: dir}, "board 1.10 (stable)", 0},
		{FlashOptions{From: server.URL}, "board 1.10 (stable)", 0},
		{FlashOptions{From: server.URL + "/releases.json", Version: "1.9"}, "board 1.9 (stable)", 0},
		{FlashOptions{From: server.URL, Channel: releases.Candidate}, "board 1.11-rc1 (release-candidate)", 0},
		{FlashOptions{From: server.URL, Key: public}, "board 1.10 (stable)", 0},
		{FlashOptions{From: server.URL, Key: public, Version: "1.9"}, "", fault.Missing},
		{FlashOptions{From: server.URL, Version: "2"}, "", fault.Missing},
		{FlashOptions{From: filepath.Join(dir, "none")}, "", fault.Missing},
		{FlashOptions{Version: "1.9"}, "--from=CATALOGUE", fault.BadInput},
	} {
		w.Stderr.(*bytes.Buffer).Reset()
		medium := filepath.Join(t.TempDir(), "medium")
		err := w.Flash(t.Context(), "board", medium, c.o)
		if fault.Of(err) != c.kind {
			t.Errorf("%+v: %v", c.o, err)
			continue
		}
		if c.kind != 0 {
			if _, err := os.Stat(medium); err == nil {
				t.Errorf("%+v: something was written", c.o)
			}
			continue
		}
		if !strings.Contains(messages(w), c.want) {
			t.Errorf("%+v: %s", c.o, messages(w))
		}
		got, err := os.ReadFile(medium)
		if err != nil || !bytes.Equal(got[:2<<20], data[:2<<20]) {
			t.Errorf("%+v: the medium differs: %v", c.o, err)
		}
	}
	if asked != 1 { // all images are the same
		t.Errorf("the image was downloaded %d times", asked)
	}
	passOff(t, dir, "1.9", "2.0")
	passOff(t, dir, "1.10", "2.1")
	for _, o := range []FlashOptions{{From: dir, Version: "2.0"}, {From: server.URL, Key: public}} {
		if err := w.Flash(t.Context(), "board", filepath.Join(t.TempDir(), "medium"), o); fault.Of(err) != fault.Digest {
			t.Errorf("an older release under a newer version, %+v: %v", o, err)
		}
	}
}

// passOff lets a catalogue name a release by another version.
func passOff(t *testing.T, dir, version, as string) {
	t.Helper()
	file := filepath.Join(dir, releases.CatalogueName)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := releases.ParseCatalogue(text)
	if err != nil {
		t.Fatal(err)
	}
	c[releases.Stable][as] = c[releases.Stable][version]
	text, err = json.Marshal(c)
	if err := errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestFlashFromOthersCatalogue takes the image from the archive of a catalogue of other programs.
func TestFlashFromOthersCatalogue(t *testing.T) {
	w, out := empty(t)
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	file, public := pairOfKeys(t, w.Root, "key", true)
	key, err := signing.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, data := newCatalogue(t, key, "1.0")
	place := filepath.Join(dir, releases.CatalogueName)
	text, err := os.ReadFile(place)
	if err != nil {
		t.Fatal(err)
	}
	c, err := releases.ParseCatalogue(text)
	if err != nil {
		t.Fatal(err)
	}
	devices := c[releases.Stable]["1.0"].Devices
	devices[0].Release = nil
	text, err = json.Marshal(map[string]any{releases.Stable: map[string]any{"1.0": devices}}) // the older form
	if err := errors.Join(err, os.WriteFile(place, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	w.JSON = true
	for range 2 {
		if err := w.Flash(t.Context(), "board", "medium", FlashOptions{From: dir, Yes: true}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(w.Root, "medium"))
	if err != nil || !bytes.Equal(got[:2<<20], data[:2<<20]) {
		t.Errorf("the medium differs: %v", err)
	}
	if !strings.Contains(out.String(), `"version": "1.0"`) {
		t.Errorf("%s", out)
	}
	if err := w.Flash(t.Context(), "board", "medium", FlashOptions{From: dir, Yes: true, Key: public}); fault.Of(err) != fault.Missing {
		t.Errorf("with a key: %v", err)
	}
}

package ctrl

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/ctrl/replaytest"
)

func collectNothing(context.Context) (int64, error) { return 0, nil }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// objectsOf makes files of the sizes that a recorded list shows.
func objectsOf(name string) func(*testing.T, *Server, *fakeEngine, []replaytest.Exchange) {
	return func(t *testing.T, s *Server, _ *fakeEngine, list []replaytest.Exchange) {
		t.Helper()
		var entries []struct{ SHA256, Size string }
		if err := json.Unmarshal([]byte(replaytest.Recorded(t, list, name)), &entries); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			size, err := strconv.ParseInt(e.Size, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.o.Objects, e.SHA256)
			write(t, path, "")
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// prepareSteps makes the factory revision of the recordings.
func prepareSteps(t *testing.T, s *Server, _ *fakeEngine, list []replaytest.Exchange) {
	t.Helper()
	state := `{"#spec":"pantavisor-service-system@1"}`
	for _, x := range list {
		if x.Case == "get running step 0" {
			state = *x.ResponseBody
		}
	}
	write(t, filepath.Join(s.o.Steps.Dir(""), "0/.pvr/json"), state)
	write(t, filepath.Join(s.o.Steps.Dir(""), "0/.pv/progress"), `{"status":"DONE","status-msg":"Factory revision","progress":100,"retries":0}`)
	if err := os.Symlink("0", filepath.Join(s.o.Steps.Dir(""), "current")); err != nil {
		t.Fatal(err)
	}
}

// configFrom makes settings of the recorded ones.
func configFrom(file string) func(*testing.T, *Server, *fakeEngine, []replaytest.Exchange) {
	return func(t *testing.T, s *Server, _ *fakeEngine, list []replaytest.Exchange) {
		t.Helper()
		var settings []Setting
		if file == "config2" {
			var entries []struct{ Key, Value, Modified string }
			if err := json.Unmarshal([]byte(*list[0].ResponseBody), &entries); err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				v := Setting{Key: e.Key, Value: e.Value, Text: e.Value, Level: e.Modified}
				if e.Value == "(null)" {
					v.Value = nil
				}
				settings = append(settings, v)
			}
		} else {
			settings = aliases(t, *list[0].ResponseBody)
		}
		s.o.Config = func() []Setting { return settings }
	}
}

func aliases(t *testing.T, text string) []Setting {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	var settings []Setting
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		settings = append(settings, Setting{Alias: key.(string), Value: value})
	}
	return settings
}

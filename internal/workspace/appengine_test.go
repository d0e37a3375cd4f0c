package workspace

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/test/appengine"
)

func TestAppEngineTestsAreAddedAndListed(t *testing.T) {
	d, out := door(t)
	for range 2 {
		if err := d.AppEngineAdd("mine"); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(out.String(), "edit test/suites/mine/data/01-new/, then record its result: mage appengine:run mine:1 -o\n") {
		t.Errorf("it does not say where the test is, and how it alone is recorded:\n%s", out)
	}
	out.Reset()
	if err := d.AppEngineTests(); err != nil || !strings.Contains(out.String(), "mine:0") || !strings.Contains(out.String(), "mine:1") {
		t.Errorf("%v\n%s", err, out)
	}
	out.Reset()
	d.JSON = true
	var list []map[string]string
	if err := d.AppEngineTests(); err != nil || json.Unmarshal(out.Bytes(), &list) != nil || len(list) != 2 || list[1]["id"] != "mine:1" {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(d.Root, "test/suites/mine/data/00-new/test.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.AppEngineTests(); fault.Of(err) != fault.BadInput {
		t.Errorf("a broken test: %v", err)
	}
}

func TestAppEngineRunKnowsItsGroups(t *testing.T) {
	d, _ := door(t)
	if err := d.AppEngineAdd("mine"); err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]string{"mini": "did you mean mine", "mine:7": "no such number"} {
		if err := d.AppEngineRun(t.Context(), word, appengine.Mode{}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}

func TestTestWords(t *testing.T) {
	for in, want := range map[string]string{
		"mage appengine:test ls": "mage appengine:ls", "mage AppEngine:Test run local:0 -i": "mage appengine:run local:0 -i",
		"mage appengine:test add local": "mage appengine:add local", "mage appengine:test": "mage appengine:test",
		"mage appengine:test fly": "mage appengine:test fly", "mage run ls": "mage run ls", "mage": "mage",
	} {
		if got := strings.Join(TestWords(strings.Fields(in)), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

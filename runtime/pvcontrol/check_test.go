package pvcontrol

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// dryRuns answers dry runs: revision 1 can run, others are blocked.
type dryRuns struct{ ctrl.Updates }

func (dryRuns) CheckStored(rev string) (api.UpdateCheck, error) {
	if rev == "9" {
		return api.UpdateCheck{}, &api.Error{Status: 404, Text: "Resource does not exist"}
	}
	u := api.UpdateCheck{
		Revision: rev, Possible: rev == "1", Restart: true, RestartKeys: []string{"bsp/run.json"},
		Difference: state.Difference{Parts: []state.PartChange{{Part: "bsp", Change: "changed", Files: 2, Bytes: 7}}, Bytes: 7},
		Space:      []api.SpaceNeed{{Partition: "storage", Required: 5, Available: 9}},
	}
	if !u.Possible {
		u.Unknown = []string{"web requires kernel>=6"}
		u.Blockers = []api.UpdateBlocker{{Check: "boot loader", Text: "too old"}}
	}
	return u, nil
}

func (d dryRuns) CheckState(doc []byte) (api.UpdateCheck, error) {
	u, err := d.CheckStored("1")
	u.Revision, u.Restart, u.Containers = string(doc), false, []string{"web"}
	return u, err
}

func TestCheck(t *testing.T) {
	t.Parallel()
	socket, _, _ := device(t)
	file := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	const head = "changed  bsp: files 2, new bytes 7\nnew bytes in all: 7\n"
	const space = "space    storage: required 5 B, available 9 B\n"
	const swap = head + "replaced without a restart: web\n" + space
	for words, want := range map[string]struct {
		code int
		out  string
	}{
		"updates check 1":        {0, head + "restart  because of bsp/run.json\n" + space},
		"steps check locals/bad": {1, head + "restart  because of bsp/run.json\n" + space + "unknown  web requires kernel>=6\nblocker  boot loader: too old\n"},
		"steps check " + file:    {0, swap},
		"updates check -":        {0, swap},
	} {
		code, out, bad := run(t, socket, "{}", strings.Fields(words)...)
		if code != want.code || out != want.out || (bad == "") != (code == 0) {
			t.Errorf("%s: exit %d, %s, %s", words, code, out, bad)
		}
	}
	code, out, _ := run(t, socket, "", "--json", "updates", "check", "2")
	var u api.UpdateCheck
	if err := json.Unmarshal([]byte(out), &u); err != nil || code != 1 || u.Revision != "2" || u.Possible {
		t.Errorf("as JSON: exit %d, %s, %v", code, out, err)
	}
	if code, _, bad := run(t, socket, "", "updates", "check", "9"); code == 0 || !strings.Contains(bad, "does not exist") {
		t.Errorf("an unknown revision: exit %d, %s", code, bad)
	}
}

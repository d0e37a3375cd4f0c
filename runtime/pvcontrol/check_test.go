package pvcontrol

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// dryRuns answers dry runs: revision 1 can run, others are blocked.
type dryRuns struct {
	ctrl.Updates
	looks *atomic.Int64 // at the list
}

// List returns updates to 0 and locals/bad, which had not begun at the first look.
func (d dryRuns) List() []api.Update {
	if d.looks.Add(1) == 1 {
		return nil
	}
	path := []api.UpdateStep{{Time: "2026-01-31T10:20:30Z", Status: "INPROGRESS", Message: "Rebooting"}, {Time: "2026-01-31T10:20:40Z", Status: "DONE"}}
	return []api.Update{
		{Number: 1, Revision: "0", Status: "DONE", Path: path},
		{Number: 2, Revision: "locals/bad", From: "0", Mode: "run", Status: "ERROR", Path: path[:1], Groups: []api.Group{{Name: "app", Timeout: 30, TimeoutRemaining: new(21)}, {Name: "root"}}, Failure: &api.UpdateFailure{Text: "too old"}},
	}
}

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

func TestCheckOfAnExport(t *testing.T) {
	t.Parallel()
	socket, _, _ := device(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"app.tgz": "\x1f\x8b\x08", "app.bz2": "BZh9", "app.tar": strings.Repeat("\x00", 257) + "ustar" + strings.Repeat("\x00", 250),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, bad := run(t, socket, "", "updates", "check", path); code != 1 || out != "" || !strings.Contains(bad, path+" is an export") || !strings.Contains(bad, "steps install") {
			t.Errorf("%s: exit %d, %s, %s", name, code, out, bad)
		}
	}
}

// TestFollowed follows updates to their ends, as JSON and into a file.
func TestFollowed(t *testing.T) {
	t.Parallel()
	const begins, done = `{"time":"2026-01-31T10:20:30Z","status":"INPROGRESS","message":"Rebooting"}` + "\n", `{"time":"2026-01-31T10:20:40Z","status":"DONE","message":""}` + "\n"
	for words, want := range map[string]struct {
		code             int
		asked, out, text string
	}{
		"--json --wait cmd make-factory":       {0, `MAKE_FACTORY ""`, begins + done, ""},
		"--json --wait cmd make-factory 3":     {0, `MAKE_FACTORY "3"`, begins + done, ""},
		"--json --wait cmd run 0":              {0, `LOCAL_RUN "0"`, begins + done, ""},
		"--wait cmd try-once 0":                {0, `TRY_ONCE "0"`, "2026-01-31T10:20:30Z  INPROGRESS  Rebooting\n2026-01-31T10:20:40Z  DONE        \n", ""},
		"--json --wait cmd apply locals/bad":   {1, `LOCAL_APPLY "locals/bad"`, begins, `{"Error":"revision locals/bad is ERROR: `},
		"--wait cmd run-commit locals/bad":     {1, `LOCAL_RUN_COMMIT "locals/bad"`, "2026-01-31T10:20:30Z  INPROGRESS  Rebooting\n", "too old"},
		"--json cmd run locals/not-waited-for": {0, `LOCAL_RUN "locals/not-waited-for"`, `{"status":200}` + "\n", ""},
	} {
		socket, _, e := device(t)
		code, out, bad := run(t, socket, "", strings.Fields(words)...)
		if code != want.code || out != want.out || e.last() != want.asked || !strings.Contains(bad, want.text) {
			t.Errorf("%s: exit %d, %q, %q, asked %s", words, code, out, bad, e.last())
		}
		socket, _, _ = device(t)
		file := filepath.Join(t.TempDir(), "out")
		if _, out, _ := run(t, socket, "", append([]string{"-f", file}, strings.Fields(words)...)...); out != "" {
			t.Errorf("%s: with a file, standard output has %q", words, out)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != want.out {
			t.Errorf("%s: the file has %q, %v", words, text, err)
		}
	}
}

func TestShowTheTimeThatIsLeft(t *testing.T) {
	t.Parallel()
	socket, _, e := device(t)
	app := "app"
	e.containers = []api.Container{
		{Name: "db", Group: &app, Status: "STARTED", StatusGoal: "READY", Timeout: 30, TimeoutRemaining: new(21)},
		{Name: "web", Group: &app, Status: "READY", StatusGoal: "READY"}, {Name: "none"},
	}
	if _, _, bad := run(t, socket, "", "updates", "ls"); bad != "" { // the first look
		t.Fatal(bad)
	}
	const want = `update 2: locals/bad from 0 (run)
  2026-01-31T10:20:30Z  INPROGRESS  Rebooting
  group app: 21 of 30 s are left
    container db is STARTED; 21 of 30 s are left to be READY
  why: too old
`
	if code, out, bad := run(t, socket, "", "updates", "show", "locals/bad"); code != 0 || out != want {
		t.Errorf("exit %d, %s%s", code, out, bad)
	}
}

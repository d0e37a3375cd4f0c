package web

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/browsertest"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// TestPage uses the page as a person does: it makes a transaction, runs it while another
// update is tested, reads why it failed, stops a container, reads a log and sets metadata.
func TestPage(t *testing.T) {
	b, script := browsertest.New(t), browsertest.Axe(t)
	w := device(t, "{}", func(o *Options) {
		o.Warnings = []string{"Everybody in the network of this device can change its software."}
	})
	w.updates.busy = 2
	w.logFile("pantavisor/pantavisor.log", strings.Repeat("[pantavisor] 12 INFO -- [engine]: a line\n", 50)+"[pantavisor] 13 INFO -- [engine]: the last line\n")
	w.logFile("web/lxc/console.log", "the console of web\n")

	b.View(1280, 900, "light")
	b.Do("Page.navigate", map[string]any{"url": w.web.URL})
	b.Has("revision", "0")
	b.Has("state", "DONE")
	b.Has("warnings", "Everybody in the network")
	b.Has("containers-list", "web")
	b.Has("log", "the last line")
	b.Has("user-meta", "fleet.channel")
	b.Accessible(script, "first look")
	b.Picture("desktop-begin")

	b.Click("begin")
	b.Has("parts", "web")
	if got := b.Eval("document.activeElement.id"); got != "file" {
		t.Errorf("the focus is on %v", got)
	}
	export := filepath.Join(t.TempDir(), "nginx.tgz")
	nginx := w.state("nginx/run.json", `{"name":"nginx"}`, "nginx/src.json", `{}`, "nginx/root.squashfs", strings.Repeat("root of nginx", 1000))
	if err := os.WriteFile(export, w.export(nginx), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Choose("file", export)
	b.Has("difference", "13.0 kB")
	b.Has("uploads", "nginx.tgz: added")
	w.updates.say(api.UpdateCheck{
		Restart: true, RestartKeys: []string{"a/run.json", "b/run.json", "bsp/run.json", "c/run.json", "d/run.json", "e/run.json"}, Containers: []string{"nginx", "web", "zoo"},
		Difference: state.Difference{Parts: []state.PartChange{{Part: "nginx", Change: "added"}, {Part: "web", Change: "removed"}, {Part: "zoo", Change: "changed"}}},
		Space:      []api.SpaceNeed{{Partition: "storage", Required: 3_000_000, Available: 5_000_000}, {Partition: "boot", Required: 9_000_000, Available: 8_000_000}},
		Blockers: []api.UpdateBlocker{
			{Check: "space", Text: "boot: Space required 9000000 B, available 8000000 B"},
			{Check: "compatibility", Text: "nginx requires kernel>=9, the running kernel provides kernel=6.1.5"},
		},
	})
	b.Click("remove-web")
	for _, want := range []string{
		"removed", "The device restarts because of a/run.json, b/run.json, bsp/run.json, c/run.json, d/run.json and 1 more; all containers stop with it.",
		"nginx is started", "web is stopped and removed", "zoo is stopped and replaced", "3.0 MB", "1.0 MB too little",
		"Space: boot: Space required 9000000 B", "Parts that do not go together: nginx requires kernel>=9, the running kernel provides kernel=6.1.5",
	} {
		b.Has("difference", want)
	}
	b.Eval(`(() => {
		const data = new DataTransfer();
		data.items.add(new File(["PK\x03\x04 and so on"], "photo.zip"));
		document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
	})()`)
	b.Has("uploads", "it has the form zip")
	b.Accessible(script, "transaction")
	b.Picture("desktop-transaction")
	b.View(390, 844, "light")
	b.Accessible(script, "transaction on a phone")
	b.Picture("phone-transaction")

	b.Fill("note", "nginx for web")
	b.Click("finish")
	b.Has("waiting", "Another update is in progress")
	b.Has("update", "21 s of 30 s")
	b.Has("state", "TESTING")
	list := w.updates.List()
	if len(list) != 1 || !strings.HasPrefix(list[0].Revision, "locals/pvtx-") || list[0].Mode != "run" {
		t.Fatalf("the device was asked for %v", list)
	}
	if note, _ := w.steps.CommitMsg(list[0].Revision); string(note) != "nginx for web" {
		t.Errorf("message %q", note)
	}
	w.updates.fail()
	b.Has("update", "the container nginx did not reach READY")
	b.Has("update", "exited with code 3")
	b.Has("update", "still could not bind()")
	b.Has("say", "ERROR")
	b.Accessible(script, "failure on a phone")
	b.Picture("phone-failure")
	b.View(1280, 900, "dark")
	b.Accessible(script, "failure in the dark")
	b.Picture("desktop-failure-dark")

	b.Eval(`document.getElementById("revisions-box").open = true`)
	b.Has("revisions", "nginx for web")
	b.Click("begin")
	b.Has("parts", "web")
	b.Fill("when", "window")
	b.Fill("window", "02:00-04:00")
	b.Has("finish", "Commit and stage")
	b.Click("finish")
	b.Has("update", "It runs at 02:00-04:00")
	b.Until(`document.getElementById("history").textContent.includes("nginx did not reach READY")`)
	b.Click("cancel-update")
	b.Until(`document.getElementById("update").hidden`)
	b.Accessible(script, "revisions in the dark")

	b.Click("stop-web")
	b.Has("say", "web: stop")
	if got := w.engine.heard(); got != "web stop" {
		t.Errorf("the engine heard %q", got)
	}
	b.Fill("log-source", "web/lxc/console.log")
	b.Has("log", "the console of web")
	w.logFile("web/lxc/console.log", "the console of web\nand another line\n")
	b.Has("log", "and another line")
	b.Fill("user-key", "place")
	b.Fill("user-value", "hall")
	b.Eval(`document.querySelector(".meta-form[data-kind=user]").requestSubmit()`)
	b.Has("user-meta", "place")
	b.Click("delete-user-place")
	b.Until(`!document.getElementById("user-meta").innerText.includes("place")`)

	b.Do("Page.navigate", map[string]any{"url": w.web.URL + "/app/api.html"})
	b.Until(`document.body?.innerText.includes("usermeta/save")`)
	b.Accessible(script, "API")
	b.View(390, 844, "light")
	b.Accessible(script, "API on a phone")
	b.Picture("phone-api")
	if len(b.Faults) > 0 {
		t.Errorf("faults of the page: %q", b.Faults)
	}
}

// TestPageQueues asks for a second update while one is tested: it waits, says for what, still does when
// the page is loaded again, and can be taken back.
func TestPageQueues(t *testing.T) {
	b, script := browsertest.New(t), browsertest.Axe(t)
	w := device(t, "{}", nil)
	b.View(1280, 900, "light")
	b.Do("Page.navigate", map[string]any{"url": w.web.URL})
	commit := func() {
		t.Helper()
		b.Click("begin")
		b.Has("parts", "web")
		b.Has("difference", "Nothing differs")
		b.Click("finish")
	}
	commit()
	b.Has("state", "TESTING")
	b.Has("update", "21 s of 30 s")
	commit()
	if got := b.Eval(`document.getElementById("progress").value`); got != 75.0 {
		t.Errorf("the progress is %v", got)
	}
	b.Has("waiting", "The update of "+w.updates.List()[0].Revision+" is TESTING.")
	b.Accessible(script, "a queued update")
	b.Picture("desktop-queued")
	b.Do("Page.reload", nil)
	b.Has("waiting", "is TESTING")
	w.updates.end()
	b.Until(`document.getElementById("waiting").hidden`)
	b.Has("state", "TESTING")
	list := w.updates.List()
	if len(list) != 2 || list[0].Revision == list[1].Revision || list[0].Status != "DONE" {
		t.Fatalf("the updates are %+v", list)
	}
	commit()
	b.Has("waiting", "The update of "+list[1].Revision)
	b.Click("waiting-stop")
	b.Until(`document.getElementById("waiting").hidden`)
	w.updates.end()
	b.Has("state", "DONE")
	b.Do("Page.reload", nil)
	b.Has("state", "DONE")
	if list := w.updates.List(); len(list) != 2 {
		t.Errorf("what was taken back has begun: %+v", list)
	}
	if len(b.Faults) > 0 {
		t.Errorf("faults of the page: %q", b.Faults)
	}
}

// TestPageWithToken lets the page ask for the token, with the keyboard alone, and wants it
// to show that the device is gone.
func TestPageWithToken(t *testing.T) {
	b := browsertest.New(t)
	const secret = "a secret of some length"
	w := device(t, "{}", func(o *Options) { o.Token = secret })
	b.View(390, 844, "light")
	b.Do("Page.navigate", map[string]any{"url": w.web.URL + "/app/"})
	b.Until(`document.activeElement.id === "token"`)
	enter := func(text string) {
		b.Do("Input.insertText", map[string]any{"text": text})
		for _, kind := range []string{"keyDown", "keyUp"} {
			b.Do("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"})
		}
	}
	enter("wrong")
	b.Has("login-error", "wrong")
	b.Eval(`document.getElementById("token").value = ""; document.getElementById("token").focus()`)
	enter(secret)
	b.Has("revision", "0")
	b.Picture("phone-status")
	w.web.CloseClientConnections()
	_ = w.web.Listener.Close()
	b.Has("lost", "does not answer")
	b.Has("link", "no answer")
	if len(b.Faults) > 0 {
		t.Errorf("faults of the page: %q", b.Faults)
	}
}

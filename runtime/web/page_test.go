package web

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// TestPage uses the page as a person does: it makes a transaction, runs it while another
// update is tested, reads why it failed, stops a container, reads a log and sets metadata.
func TestPage(t *testing.T) {
	b, script := newBrowser(t), axe(t)
	w := device(t, "{}", func(o *Options) {
		o.Warnings = []string{"Everybody in the network of this device can change its software."}
	})
	w.updates.busy = 2
	w.logFile("pantavisor/pantavisor.log", strings.Repeat("[pantavisor] 12 INFO -- [engine]: a line\n", 50)+"[pantavisor] 13 INFO -- [engine]: the last line\n")
	w.logFile("web/lxc/console.log", "the console of web\n")

	b.view(1280, 900, "light")
	b.do("Page.navigate", map[string]any{"url": w.web.URL})
	b.has("revision", "0")
	b.has("state", "DONE")
	b.has("warnings", "Everybody in the network")
	b.has("containers-list", "web")
	b.has("log", "the last line")
	b.has("user-meta", "fleet.channel")
	b.accessible(script, "first look")
	b.picture("desktop-begin")

	b.click("begin")
	b.has("parts", "web")
	if got := b.eval("document.activeElement.id"); got != "file" {
		t.Errorf("the focus is on %v", got)
	}
	export := filepath.Join(t.TempDir(), "nginx.tgz")
	nginx := w.state("nginx/run.json", `{"name":"nginx"}`, "nginx/src.json", `{}`, "nginx/root.squashfs", strings.Repeat("root of nginx", 1000))
	if err := os.WriteFile(export, w.export(nginx), 0o600); err != nil {
		t.Fatal(err)
	}
	b.choose("file", export)
	b.has("difference", "13.0 kB")
	b.has("uploads", "nginx.tgz: added")
	w.updates.say(api.UpdateCheck{
		Restart: true, RestartKeys: []string{"a/run.json", "b/run.json", "bsp/run.json", "c/run.json", "d/run.json", "e/run.json"}, Containers: []string{"nginx", "web", "zoo"},
		Difference: state.Difference{Parts: []state.PartChange{{Part: "nginx", Change: "added"}, {Part: "web", Change: "removed"}, {Part: "zoo", Change: "changed"}}},
		Space:      []api.SpaceNeed{{Partition: "storage", Required: 3_000_000, Available: 5_000_000}, {Partition: "boot", Required: 9_000_000, Available: 8_000_000}},
		Blockers: []api.UpdateBlocker{
			{Check: "space", Text: "boot: Space required 9000000 B, available 8000000 B"},
			{Check: "compatibility", Text: "nginx requires kernel>=9, the running kernel provides kernel=6.1.5"},
		},
	})
	b.click("remove-web")
	for _, want := range []string{
		"removed", "The device restarts because of a/run.json, b/run.json, bsp/run.json, c/run.json, d/run.json and 1 more; all containers stop with it.",
		"nginx is started", "web is stopped and removed", "zoo is stopped and replaced", "3.0 MB", "1.0 MB too little",
		"Space: boot: Space required 9000000 B", "Parts that do not go together: nginx requires kernel>=9, the running kernel provides kernel=6.1.5",
	} {
		b.has("difference", want)
	}
	b.eval(`(() => {
		const data = new DataTransfer();
		data.items.add(new File(["PK\x03\x04 and so on"], "photo.zip"));
		document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
	})()`)
	b.has("uploads", "it has the form zip")
	b.accessible(script, "transaction")
	b.picture("desktop-transaction")
	b.view(390, 844, "light")
	b.accessible(script, "transaction on a phone")
	b.picture("phone-transaction")

	b.fill("note", "nginx for web")
	b.click("finish")
	b.has("waiting", "Another update is in progress")
	b.has("update", "21 s of 30 s")
	b.has("state", "TESTING")
	list := w.updates.List()
	if len(list) != 1 || !strings.HasPrefix(list[0].Revision, "locals/pvtx-") || list[0].Mode != "run" {
		t.Fatalf("the device was asked for %v", list)
	}
	if note, _ := w.steps.CommitMsg(list[0].Revision); string(note) != "nginx for web" {
		t.Errorf("message %q", note)
	}
	w.updates.fail()
	b.has("update", "the container nginx did not reach READY")
	b.has("update", "exited with code 3")
	b.has("update", "still could not bind()")
	b.has("say", "ERROR")
	b.accessible(script, "failure on a phone")
	b.picture("phone-failure")
	b.view(1280, 900, "dark")
	b.accessible(script, "failure in the dark")
	b.picture("desktop-failure-dark")

	b.eval(`document.getElementById("revisions-box").open = true`)
	b.has("revisions", "nginx for web")
	b.click("begin")
	b.has("parts", "web")
	b.fill("when", "window")
	b.fill("window", "02:00-04:00")
	b.has("finish", "Commit and stage")
	b.click("finish")
	b.has("update", "It runs at 02:00-04:00")
	b.until(`document.getElementById("history").textContent.includes("nginx did not reach READY")`)
	b.click("cancel-update")
	b.until(`document.getElementById("update").hidden`)
	b.accessible(script, "revisions in the dark")

	b.click("stop-web")
	b.has("say", "web: stop")
	if got := w.engine.heard(); got != "web stop" {
		t.Errorf("the engine heard %q", got)
	}
	b.fill("log-source", "web/lxc/console.log")
	b.has("log", "the console of web")
	w.logFile("web/lxc/console.log", "the console of web\nand another line\n")
	b.has("log", "and another line")
	b.fill("user-key", "place")
	b.fill("user-value", "hall")
	b.eval(`document.querySelector(".meta-form[data-kind=user]").requestSubmit()`)
	b.has("user-meta", "place")
	b.click("delete-user-place")
	b.until(`!document.getElementById("user-meta").innerText.includes("place")`)

	b.do("Page.navigate", map[string]any{"url": w.web.URL + "/app/api.html"})
	b.until(`document.body?.innerText.includes("usermeta/save")`)
	b.accessible(script, "API")
	b.view(390, 844, "light")
	b.accessible(script, "API on a phone")
	b.picture("phone-api")
	if len(b.faults) > 0 {
		t.Errorf("faults of the page: %q", b.faults)
	}
}

// TestPageQueues asks for a second update while one is tested: it waits, says for what, still does when
// the page is loaded again, and can be taken back.
func TestPageQueues(t *testing.T) {
	b, script := newBrowser(t), axe(t)
	w := device(t, "{}", nil)
	b.view(1280, 900, "light")
	b.do("Page.navigate", map[string]any{"url": w.web.URL})
	commit := func() {
		t.Helper()
		b.click("begin")
		b.has("parts", "web")
		b.has("difference", "Nothing differs")
		b.click("finish")
	}
	commit()
	b.has("state", "TESTING")
	b.has("update", "21 s of 30 s")
	commit()
	if got := b.eval(`document.getElementById("progress").value`); got != 75.0 {
		t.Errorf("the progress is %v", got)
	}
	b.has("waiting", "The update of "+w.updates.List()[0].Revision+" is TESTING.")
	b.accessible(script, "a queued update")
	b.picture("desktop-queued")
	b.do("Page.reload", nil)
	b.has("waiting", "is TESTING")
	w.updates.end()
	b.until(`document.getElementById("waiting").hidden`)
	b.has("state", "TESTING")
	list := w.updates.List()
	if len(list) != 2 || list[0].Revision == list[1].Revision || list[0].Status != "DONE" {
		t.Fatalf("the updates are %+v", list)
	}
	commit()
	b.has("waiting", "The update of "+list[1].Revision)
	b.click("waiting-stop")
	b.until(`document.getElementById("waiting").hidden`)
	w.updates.end()
	b.has("state", "DONE")
	b.do("Page.reload", nil)
	b.has("state", "DONE")
	if list := w.updates.List(); len(list) != 2 {
		t.Errorf("what was taken back has begun: %+v", list)
	}
	if len(b.faults) > 0 {
		t.Errorf("faults of the page: %q", b.faults)
	}
}

// TestPageWithToken lets the page ask for the token, with the keyboard alone, and wants it
// to show that the device is gone.
func TestPageWithToken(t *testing.T) {
	b := newBrowser(t)
	const secret = "a secret of some length"
	w := device(t, "{}", func(o *Options) { o.Token = secret })
	b.view(390, 844, "light")
	b.do("Page.navigate", map[string]any{"url": w.web.URL + "/app/"})
	b.until(`document.activeElement.id === "token"`)
	enter := func(text string) {
		b.do("Input.insertText", map[string]any{"text": text})
		for _, kind := range []string{"keyDown", "keyUp"} {
			b.do("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"})
		}
	}
	enter("wrong")
	b.has("login-error", "wrong")
	b.eval(`document.getElementById("token").value = ""; document.getElementById("token").focus()`)
	enter(secret)
	b.has("revision", "0")
	b.picture("phone-status")
	w.web.CloseClientConnections()
	_ = w.web.Listener.Close()
	b.has("lost", "does not answer")
	b.has("link", "no answer")
	if len(b.faults) > 0 {
		t.Errorf("faults of the page: %q", b.faults)
	}
}

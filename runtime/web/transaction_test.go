package web

import (
	"net/http"
	"strings"
	"testing"
)

// TestManualsTransactions makes the changes of the manual's examples.
func TestManualsTransactions(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	w.fails(400, "No active transaction.", "GET", "/cgi-bin/pvtx/show", "")
	for _, verb := range []string{"abort", "commit"} {
		w.fails(400, "Start a transaction first.", "POST", "/cgi-bin/pvtx/"+verb, "")
	}
	w.fails(400, "Start a transaction first.", "PUT", "/cgi-bin/pvtx/add", "{}")
	w.fails(400, "Start a transaction first.", "PUT", "/cgi-bin/pvtx/remove?part=web", "")

	if got := w.ok("POST", "/cgi-bin/pvtx/begin", ""); !strings.Contains(got, `"web/root.squashfs"`) {
		t.Errorf("begin: %s", got)
	}
	told := w.fails(400, "A transaction is active.", "POST", "/cgi-bin/pvtx/begin", "")
	if !strings.Contains(w.member(told, "transaction"), "web/run.json") {
		t.Errorf("begin twice: %s", told)
	}
	nginx := w.state("nginx/run.json", `{"name":"nginx"}`, "nginx/src.json", `{}`, "nginx/root.squashfs", "root of nginx")
	if got := w.ok("PUT", "/cgi-bin/pvtx/add", string(w.export(nginx))); !strings.Contains(got, `"nginx/root.squashfs"`) {
		t.Errorf("add: %s", got)
	}
	if got := w.ok("PUT", "/cgi-bin/pvtx/remove?part=web", ""); strings.Contains(got, "web/") {
		t.Errorf("remove: %s", got)
	}
	w.fails(404, `Nothing of the transaction belongs to "web".`, "PUT", "/cgi-bin/pvtx/remove?part=web", "")
	diff := w.ok("GET", "/cgi-bin/pvtx/diff", "")
	want := `{"parts":[{"part":"nginx","change":"added","files":3,"bytes":13},{"part":"web","change":"removed","files":3,"bytes":0}],"bytes":13,"missing":[]}`
	if strings.TrimSpace(diff) != want {
		t.Errorf("diff: %s", diff)
	}
	rev := w.member(w.ok("POST", "/cgi-bin/pvtx/commit?message=nginx+for+web", ""), "revision")
	if !strings.HasPrefix(rev, "locals/pvtx-") {
		t.Errorf("commit: %q", rev)
	}
	if note, _ := w.steps.CommitMsg(rev); string(note) != "nginx for web" {
		t.Errorf("message %q", note)
	}
	w.fails(400, "No active transaction.", "GET", "/cgi-bin/pvtx/diff", "")
	if got := w.ok("POST", "/cgi-bin/pvtx/run?rev="+rev, ""); w.member(got, "status") != "DONE" {
		t.Errorf("run: %s", got)
	}
	if w.engine.heard() != "LOCAL_RUN "+rev {
		t.Errorf("the device heard %q", w.engine.heard())
	}
	status := w.ok("GET", "/cgi-bin/pvtx/status?rev="+rev, "")
	if w.member(status, "rev") != rev || !strings.Contains(w.member(status, "progress"), "DONE") {
		t.Errorf("status: %s", status)
	}
	if got := w.ok("GET", "/cgi-bin/pvtx/status", ""); w.member(got, "rev") != "0" {
		t.Errorf("status of what runs: %s", got)
	}
}

func TestTransactionFromNothing(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	if got := w.ok("POST", "/cgi-bin/pvtx/begin?empty=true", ""); strings.TrimSpace(got) != `{"#spec":"pantavisor-service-system@1"}` {
		t.Errorf("begin: %s", got)
	}
	w.ok("POST", "/cgi-bin/pvtx/abort", "")
	w.fails(400, "Start a transaction first.", "POST", "/cgi-bin/pvtx/abort", "")
}

// TestBadPackage wants a package that is broken to change nothing.
func TestBadPackage(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	before := w.ok("POST", "/cgi-bin/pvtx/begin", "")
	good := string(w.export(w.state("nginx/run.json", `{}`, "nginx/root.squashfs", strings.Repeat("root", 1000))))
	for _, bad := range []string{"", "garbage", good[:len(good)/2], "PK\x03\x04zip"} {
		code, _, text := w.do("PUT", "/cgi-bin/pvtx/add", strings.NewReader(bad))
		if code != 400 || w.member(text, "error") == "" {
			t.Errorf("%.20q: %d %s", bad, code, text)
		}
	}
	if got := w.ok("GET", "/cgi-bin/pvtx/show", ""); got != before {
		t.Errorf("the transaction is now %s", got)
	}
}

// TestBusyDevice wants the answer of a device that tests an update to arrive as it is.
func TestBusyDevice(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	w.engine.busy = 1
	code, head, text := w.do("POST", "/cgi-bin/pvtx/run?rev=0", nil)
	if code != http.StatusServiceUnavailable || head.Get("Retry-After") != "1" || !strings.HasSuffix(w.member(text, "error"), ": Cannot do this operation while update is ongoing") {
		t.Errorf("%d %v %s", code, head, text)
	}
	w.ok("POST", "/cgi-bin/pvtx/run?rev=0", "")
	w.fails(400, "the query has no rev", "POST", "/cgi-bin/pvtx/run", "")
	for _, rev := range []string{"..", "a/b", "locals/../0", "x%0ay"} {
		w.fails(400, "not a valid revision", "POST", "/cgi-bin/pvtx/run?rev="+rev, "")
		w.fails(400, "not a valid revision", "GET", "/cgi-bin/pvtx/status?rev="+rev, "")
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	got := w.ok("GET", "/cgi-bin/pvtx/get-config", "")
	for _, want := range []string{`"eth0.ipv4":["192.0.2.1"]`, `"user":{"fleet.channel":"stable"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("get-config lacks %s: %s", want, got)
		}
	}
	if got := w.ok("POST", "/cgi-bin/pvtx/usermeta/save?key=newkey", "a value"); w.member(got, "newkey") != "a value" {
		t.Errorf("save: %s", got)
	}
	if got := w.ok("PUT", "/cgi-bin/pvtx/usermeta/delete?key=newkey", ""); strings.Contains(got, "newkey") || w.member(got, "fleet.channel") != "stable" {
		t.Errorf("delete: %s", got)
	}
	w.fails(404, "does not exist", "PUT", "/cgi-bin/pvtx/usermeta/delete?key=newkey", "")
	w.fails(400, "no key", "POST", "/cgi-bin/pvtx/usermeta/save", "x")
	w.fails(400, "", "POST", "/cgi-bin/pvtx/usermeta/save?key=a%0d%0ab", "x")
	w.ok("PUT", "/app/api/device-meta/place", "hall")
	w.ok("DELETE", "/app/api/device-meta/place", "")
}

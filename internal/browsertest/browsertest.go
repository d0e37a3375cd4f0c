// Package browsertest shows pages to a headless Chromium in tests: it uses them as a person does,
// looks for errors of scripts and of the content policy, and checks that they are accessible.
package browsertest

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// Browser is a page in a headless Chromium, which is told what to do over a pipe, each
// message a JSON object with a NUL at its end (Chrome DevTools Protocol,
// --remote-debugging-pipe).
type Browser struct {
	*testing.T
	to      io.Writer
	from    *bufio.Reader
	last    int
	session string
	Faults  []string // errors of scripts and of the content policy
}

// patience is for what the page does; a machine with other work may be slow.
const patience = 90 * time.Second

// New starts a browser, which ends with the test.
func New(t *testing.T) *Browser {
	t.Helper()
	program := oracle.Program(t, "chromium")
	ctx, cancel := context.WithCancel(context.Background())
	// Chromium reads descriptor 3 and writes 4.
	theirs, to, err1 := os.Pipe()
	from, answers, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-extensions", "--disable-background-networking", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, answers}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirs.Close(), answers.Close()
	b := &Browser{T: t, to: to, from: bufio.NewReaderSize(from, 1<<20)}
	t.Cleanup(func() {
		_, _ = b.ask("", "Browser.close", nil)
		_, _ = to.Close(), from.Close()
		wait := time.AfterFunc(10*time.Second, cancel)
		_ = cmd.Wait() // it may have been killed
		wait.Stop()
		cancel()
	})
	_ = from.SetReadDeadline(time.Now().Add(4 * time.Minute))
	target := b.Do("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = b.Do("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"].(string)
	for _, domain := range []string{"Page", "Runtime", "Log", "DOM"} {
		b.Do(domain+".enable", nil)
	}
	return b
}

// cdpMessage is an answer or an event.
type cdpMessage struct {
	ID     int            `json:"id"`
	Method string         `json:"method"`
	Result map[string]any `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Params struct {
		Entry   struct{ Level, Source, Text string } `json:"entry"`
		Details struct {
			Text      string
			Exception struct{ Description string }
		} `json:"exceptionDetails"`
	} `json:"params"`
}

// Do sends a command of the DevTools protocol (chromedevtools.github.io/devtools-protocol) to the page and returns
// its result. An error ends the test.
func (b *Browser) Do(method string, params map[string]any) map[string]any {
	b.Helper()
	result, err := b.ask(b.session, method, params)
	if err != nil {
		b.Fatalf("%s: %v", method, err)
	}
	return result
}

func (b *Browser) ask(session, method string, params map[string]any) (map[string]any, error) {
	b.last++
	if params == nil {
		params = map[string]any{}
	}
	m := map[string]any{"id": b.last, "method": method, "params": params}
	if session != "" {
		m["sessionId"] = session
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		return nil, err
	}
	for {
		text, err := b.from.ReadBytes(0)
		if err != nil {
			return nil, err
		}
		var m cdpMessage
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			return nil, err
		}
		b.notice(m)
		switch {
		case m.ID != b.last:
		case m.Error != nil:
			return nil, errors.New(m.Error.Message)
		default:
			return m.Result, nil
		}
	}
}

// notice keeps what went wrong in the page. Answers with an error status are no fault.
func (b *Browser) notice(m cdpMessage) {
	switch e := m.Params.Entry; {
	case m.Method == "Runtime.exceptionThrown":
		b.Faults = append(b.Faults, m.Params.Details.Text+" "+m.Params.Details.Exception.Description)
	case m.Method == "Log.entryAdded" && e.Source != "network" && (e.Level == "error" || e.Source == "security"):
		b.Faults = append(b.Faults, e.Source+": "+e.Text)
	}
}

// Eval returns the value of an expression; a promise's when it is kept.
func (b *Browser) Eval(expression string) any {
	b.Helper()
	got := b.Do("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true})
	if bad, found := got["exceptionDetails"]; found {
		b.Fatalf("%.200s: %v", expression, bad)
	}
	return got["result"].(map[string]any)["value"]
}

// Until waits for an expression to be true. While a page loads its elements are missing.
func (b *Browser) Until(expression string) {
	b.Helper()
	for end := time.Now().Add(patience); b.Eval("(() => { try { return Boolean("+expression+") } catch { return false } })()") != true; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("it does not become true: %s\nthe page has: %s\nfaults: %q", expression, b.Eval("document.body.innerText"), b.Faults)
		}
	}
}

// Has waits for a text in an element.
func (b *Browser) Has(id, text string) {
	b.Helper()
	b.Until(fmt.Sprintf("document.getElementById(%q)?.innerText.includes(%q)", id, text))
}

// Click clicks an element, which must be there, visible and enabled.
func (b *Browser) Click(id string) {
	b.Helper()
	b.Until(fmt.Sprintf("(e => e && !e.disabled && e.checkVisibility())(document.getElementById(%q))", id))
	b.Eval(fmt.Sprintf("document.getElementById(%q).click()", id))
}

// Fill sets the value of a field.
func (b *Browser) Fill(id, value string) {
	b.Helper()
	b.Eval(fmt.Sprintf("(e => { e.value = %q; e.dispatchEvent(new Event('change', { bubbles: true })); })(document.getElementById(%q))", value, id))
}

// Choose lets a file input have a file.
func (b *Browser) Choose(id, path string) {
	b.Helper()
	root := b.Do("DOM.getDocument", nil)["root"].(map[string]any)["nodeId"]
	node := b.Do("DOM.querySelector", map[string]any{"nodeId": root, "selector": "#" + id})["nodeId"]
	b.Do("DOM.setFileInputFiles", map[string]any{"files": []string{path}, "nodeId": node})
}

// View sets the size of the page, in CSS pixels, and its colours, "light" or "dark".
func (b *Browser) View(width, height int, colours string) {
	b.Helper()
	b.Do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
	b.Do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": colours}}})
}

// Picture stores the page as it looks, with what is below the window.
func (b *Browser) Picture(name string) {
	b.Helper()
	data, err := base64.StdEncoding.DecodeString(b.Do("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true})["data"].(string))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.ArtifactDir(), name+".png"), data, 0o644); err != nil {
		b.Fatal(err)
	}
}

// Accessible wants axe to find nothing serious or critical, and the page not to be wider
// than the window.
func (b *Browser) Accessible(axe, where string) {
	b.Helper()
	b.Eval("typeof axe === 'undefined' && (0, eval)(" + quoted(axe) + ")")
	found := b.Eval(`axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations
		.filter(v => v.impact === "serious" || v.impact === "critical")
		.map(v => v.id + ": " + v.nodes.map(n => n.html.slice(0, 200) + " " + n.failureSummary).join("; ")))`)
	if list, _ := found.([]any); len(list) > 0 {
		b.Errorf("%s: axe finds %q", where, list)
	}
	if wide := b.Eval("document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide != 0.0 {
		b.Errorf("%s: the page is %v pixels wider than the window", where, wide)
	}
}

func quoted(text string) string {
	b, _ := json.Marshal(text) // of a string
	return string(b)
}

// The checker of accessibility: a package of npm, and its digest there.
const (
	axePackage = "axe-core@4.10.3"
	axeDigest  = "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg=="
)

// Axe returns the script of the checker.
func Axe(t *testing.T) string {
	t.Helper()
	return string(oracle.NPM(t, axePackage, axeDigest, "axe.min.js"))
}

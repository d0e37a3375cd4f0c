package build

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var sample = []Event{
	{Type: Started, Total: 3},
	{Type: Cached, Step: "a", Why: "nothing changed"},
	{Type: Running, Step: "b", Why: "never built"},
	{Type: Progress, Step: "b", Done: 5, Total: 10, Unit: "bytes"},
	{Type: Message, Step: "b", Text: "hello"},
	{Type: Warning, Step: "b", Text: "replaced"},
	{Type: Done, Step: "b", Wall: 1.25, Bytes: 2048},
	{Type: Failed, Step: "c", Text: "running step c: no", Kind: "unreachable"},
	{Type: Written, Text: "out/x.img", Bytes: 3 << 20},
	{Type: Finished, Target: "x", Kind: "unreachable", Wall: 2, CPU: 1},
}

func TestPlain(t *testing.T) {
	var text bytes.Buffer
	plain := &Plain{W: &text}
	for _, e := range sample {
		plain.Event(e)
	}
	plain.Event(Event{Type: Warning, Text: "late"})
	want := `running  b (never built)
         b: hello
done     b in 1.2 s, 2.0 KiB
failed   c: running step c: no
written  out/x.img, 3.0 MiB
cached   1 step (nothing changed)
stopped (unreachable) x in 2.0 s, 1.0 s of CPU
warning  b: replaced
warning  late
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSONLines(t *testing.T) {
	var text bytes.Buffer
	for _, e := range sample {
		e.Time = time.Unix(1, 0).UTC()
		JSON{&text}.Event(e)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != len(sample) {
		t.Fatalf("%d lines, want %d", len(lines), len(sample))
	}
	for i, line := range lines {
		var back Event
		if err := json.Unmarshal([]byte(line), &back); err != nil || back.Type != sample[i].Type || back.Step != sample[i].Step {
			t.Errorf("%s: %+v, %v", line, back, err)
		}
	}
	if want := `{"time":"1970-01-01T00:00:01Z","type":"started","total":3}`; lines[0] != want {
		t.Errorf("got %s, want %s", lines[0], want)
	}
}

func TestLive(t *testing.T) {
	var text bytes.Buffer
	l := NewLive(&text)
	for _, e := range sample {
		e.Time = time.Now()
		l.Event(e)
	}
	l.Close()
	for _, want := range []string{"warning  b: replaced", "done     b in", "cached   1 step", "stopped (unreachable)"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the terminal does not show %q:\n%q", want, text.String())
		}
	}
}

func TestRateText(t *testing.T) {
	if got := rateText(5<<20, "bytes") + ", " + rateText(12, "files"); got != "5.0 MiB/s, 12 files/s" {
		t.Errorf("got %q", got)
	}
}

// TestEventsAreDocumented compares docs/events.md with the struct and the types.
func TestEventsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	for i := range reflect.TypeFor[Event]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[Event]().Field(i).Tag.Get("json"), ",")
		if !strings.Contains(doc, "| `"+name+"` |") {
			t.Errorf("docs/events.md has no row for field %s", name)
		}
	}
	for _, e := range []EventType{Started, Running, Progress, Warning, Message, Done, Cached, Failed, Replaced, Written, Finished, Resulted} {
		if !strings.Contains(doc, "| `"+string(e)+"` |") {
			t.Errorf("docs/events.md has no row for type %s", e)
		}
	}
}

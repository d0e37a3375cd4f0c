package handoff

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecordLineIsOneJSONLine(t *testing.T) {
	want := Record{T: 1.25, Level: 3, Source: "init", Msg: "two\nlines \"quoted\""}
	line := want.Line()
	if n := strings.Count(string(line), "\n"); n != 1 {
		t.Fatalf("%q has %d newlines, want 1", line, n)
	}
	var got Record
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestRecordLineSurvivesNoNumber(t *testing.T) {
	if got, want := string(Record{T: math.NaN(), Msg: "x"}.Line()), `{"t":0,"level":0,"source":"","msg":"x"}`+"\n"; got != want {
		t.Errorf("line = %s, want %s", got, want)
	}
}

func TestNotify(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	t.Setenv(EnvNotify, strconv.Itoa(int(w.Fd())))
	if err := Notify(Ready); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(r).ReadString('\n'); err != nil || got != "ready\n" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestNotifyWithoutListener(t *testing.T) {
	t.Setenv(EnvNotify, "")
	if err := Notify(Ready); err != nil {
		t.Errorf("unset: %v", err)
	}
	for _, bad := range []string{"x", "1", "-1", "987654"} {
		t.Setenv(EnvNotify, bad)
		if err := Notify(Ready); err == nil {
			t.Errorf("%s=%q: no error", EnvNotify, bad)
		}
	}
}

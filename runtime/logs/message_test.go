package logs

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseText(t *testing.T) {
	tests := []struct {
		name, in string
		want     Message
	}{
		{"RFC 3164 with host", "<34>Oct 11 22:14:15 mymachine su: 'su root' failed\n", Message{Source: "su", Level: Error, Text: "Oct 11 22:14:15 mymachine su: 'su root' failed"}},
		{"RFC 3164 as C libraries send it", "<14>Oct 11 22:14:15 app[123]: hello\x00", Message{Source: "app", Level: Info, Text: "Oct 11 22:14:15 app[123]: hello"}},
		{"RFC 3164 without time", "<12>app: hello", Message{Source: "app", Level: Warn, Text: "app: hello"}},
		{"RFC 3164 without tag", "<15>hello", Message{Source: "messages", Level: Debug, Text: "hello"}},
		{"RFC 5424", "<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 - text", Message{Source: "evntslog", Level: Info, Text: "2003-10-11T22:14:15.003Z host evntslog - ID47 - text"}},
		{"RFC 5424 without name", "<0>1 - - - - - - text", Message{Source: "messages", Level: Fatal, Text: "- - - - - - text"}},
		{"severity 1", "<1>x", Message{Source: "messages", Level: Fatal, Text: "x"}},
		{"no priority", "<192>x", Message{Source: "messages", Level: Info, Text: "<192>x"}},
		{"no number", "<a>x", Message{Source: "messages", Level: Info, Text: "<a>x"}},
		{"open", "<1", Message{Source: "messages", Level: Info, Text: "<1"}},
		{"JSON", `{"version":"0","level":"ERROR","src":"net","message":"a \"b\""}`, Message{Source: "net", Level: Error, Text: `a "b"`}},
		{"JSON, level a number", `{"version":"0","level":2,"message":"m"}`, Message{Source: "messages", Level: Warn, Text: "m"}},
		{"JSON, level a text number", `{"version":"0","level":"5","src":"s","message":"m"}`, Message{Source: "s", Level: Trace, Text: "m"}},
		{"JSON of another version", `{"version":"1","message":"m"}`, Message{Source: "messages", Level: Info, Text: `{"version":"1","message":"m"}`}},
		{"JSON cut off", `{"version":"0","mess`, Message{Source: "messages", Level: Info, Text: `{"version":"0","mess`}},
		{"pairs", "level=DEBUG src=net message=link up now", Message{Source: "net", Level: Debug, Text: "link up now"}},
		{"pairs quoted", `level="warn" message="a \"b\" c" src="n t"`, Message{Source: "n t", Level: Warn, Text: `a "b" c`}},
		{"pairs without message", "level=DEBUG src=net", Message{Source: "messages", Level: Info, Text: "level=DEBUG src=net"}},
		{"quote not closed", `message="abc`, Message{Source: "messages", Level: Info, Text: `message="abc`}},
		{"bad level", "level=99 message=m", Message{Source: "messages", Level: Info, Text: "m"}},
		{"plain", "hello = world", Message{Source: "messages", Level: Info, Text: "hello = world"}},
		{"empty", "", Message{Source: "messages", Level: Info}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, parseText(tt.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// legacy builds a message of the binary form.
func legacy(code, n int32, body string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(code))
	b = binary.NativeEndian.AppendUint32(b, uint32(n))
	return append(b, body...)
}

func TestCutMessage(t *testing.T) {
	body := "1\x00app\x00src\x00the text\n\x00"
	whole := legacy(0, int32(len(body)), body)
	m, rest, ok, err := cutMessage(append(whole, "<13>x: next"...), false)
	if err != nil || !ok || string(rest) != "<13>x: next" {
		t.Fatalf("binary: %v %v, rest %q", ok, err, rest)
	}
	if diff := cmp.Diff(Message{Platform: "app", Source: "src", Level: Error, Text: "the text"}, m); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i := range whole {
		if _, _, ok, err := cutMessage(whole[:i], false); ok || err != nil {
			t.Errorf("%d of %d bytes: ok %v, %v, want to wait for more", i, len(whole), ok, err)
		}
	}
	for name, data := range map[string][]byte{
		"length below zero": legacy(0, -1, ""), "length above the limit": legacy(0, maxMessage+1, ""),
		"unknown code": legacy(1<<24|256<<8, 0, "")[:8], "fields missing": legacy(0, 3, "1\x00x"),
	} {
		data[0] = 0
		if _, _, ok, err := cutMessage(data, false); err == nil {
			t.Errorf("%s: ok %v without an error", name, ok)
		}
	}
	if _, _, _, err := cutMessage(legacy(256, 2, "{}"), false); !errors.Is(err, errCommand) {
		t.Errorf("command: %v, want errCommand", err)
	}
	if m, rest, ok, _ := cutMessage([]byte("<13>a\x00<13>b"), false); !ok || m.Text != "a" || string(rest) != "<13>b" {
		t.Errorf("text with a zero byte: %+v %q", m, rest)
	}
	if _, rest, ok, _ := cutMessage([]byte("<13>b"), false); ok || string(rest) != "<13>b" {
		t.Error("a text without its end was taken")
	}
	if m, _, ok, _ := cutMessage([]byte("<13>b"), true); !ok || m.Text != "b" {
		t.Error("a text at the end of the stream was not taken")
	}
}

func TestStamps(t *testing.T) {
	at := time.Date(2026, 1, 4, 15, 6, 7, 0, time.FixedZone("CET", 3600))
	tests := []struct{ format, want string }{
		{"golang:Layout", "01/04 03:06:07PM '26 +0100"}, {"golang:RubyDate", "Sun Jan 04 15:06:07 +0100 2026"},
		{"golang:ANSIC", "Sun Jan  4 15:06:07 2026"}, {"golang:RFC822Z", "04 Jan 26 15:06 +0100"},
		{"golang:RFC1123Z", "Sun, 04 Jan 2026 15:06:07 +0100"},
		{"strftime:%d, %T %Y", "04, 15:06:07 2026"}, {"strftime:%F %H:%M:%S %z %Z %a %A %b %B %%", "2026-01-04 15:06:07 +0100 CET Sun Sunday Jan January %"},
		{"strftime:%j %U %W %V %G %g %u %w %C %y", "004 01 00 01 2026 26 7 0 20 26"}, {"strftime:%e|%k|%l|%I|%p|%P|%s", " 4|15| 3|03|PM|pm|1767535567"},
		{"strftime:%Ey %q %", "26 %q %"}, {"strftime:", ""}, {"strftime:a:b", "a:b"},
	}
	for _, tt := range tests {
		stamp, err := newStamper(tt.format)
		if err != nil {
			t.Errorf("%s: %v", tt.format, err)
			continue
		}
		if got := stamp(at); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.format, got, tt.want)
		}
	}
	for _, bad := range []string{"golang:Kitchen", "ctime", "golang:"} {
		if _, err := newStamper(bad); err == nil {
			t.Errorf("format %q was taken", bad)
		}
	}
}

func TestOutputs(t *testing.T) {
	tests := []struct {
		list string
		want Output
		bad  bool
	}{
		{"filetree", FileTree, false}, {"", FileTree, false}, {"nullsink", nullSink, false},
		{" FileTree , stdout_direct,stdout.containers", FileTree | StdoutDirect | StdoutContainers, false},
		{"filetree,paper", FileTree, true}, {"singlefile,stdout,stdout.pantavisor", SingleFile | Stdout | StdoutPantavisor, false},
	}
	for _, tt := range tests {
		got, err := ParseOutputs(tt.list)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("ParseOutputs(%q) = %v, %v", tt.list, got, err)
		}
		if again, err := ParseOutputs(got.String()); again != got || err != nil {
			t.Errorf("%v written and read is %v, %v", got, again, err)
		}
	}
}

func TestParseKernel(t *testing.T) {
	level, text, ok := parseKernel("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n")
	if !ok || level != Info || text != "[    5.140900] NET: Registered" {
		t.Errorf("%v %q %v", level, text, ok)
	}
	for _, bad := range []string{"", ";", "x,1,2;a", "1,2;a", "no record"} {
		if _, _, ok := parseKernel(bad); ok {
			t.Errorf("%q was taken as a record", bad)
		}
	}
}

func seeds(f *testing.F) {
	for _, s := range []string{
		"<34>Oct 11 22:14:15 host su: text", "<165>1 2003-10-11T22:14:15.003Z h app - - - text", `{"version":"0","level":"ERROR","src":"s","message":"m"}`,
		`level=DEBUG src="a b" message=c d`, string(legacy(0, 10, "1\x00a\x00b\x00text")), "\x00\x00\x00", "<>", "message=\"\\\"",
	} {
		f.Add([]byte(s))
	}
}

func FuzzCutMessage(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for rest, rounds := data, 0; ; rounds++ {
			m, next, ok, err := cutMessage(rest, true)
			if !ok || err != nil {
				return
			}
			if len(next) >= len(rest) || rounds > len(data) {
				t.Fatalf("no progress: %d bytes after %d", len(next), len(rest))
			}
			if m.Source == "" || m.Level < Fatal || m.Level > All {
				t.Fatalf("message without source or level: %+v", m)
			}
			rest = next
		}
	})
}

func FuzzParseText(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := parseText(string(data))
		if m.Source == "" || m.Level < Fatal || m.Level > All || len(m.Text) > 3*len(data) {
			t.Fatalf("%q: %+v", data, m)
		}
		if rel := cleanSource(m.Source); strings.HasPrefix(rel, "/") || strings.Contains("/"+rel+"/", "/../") || !utf8.ValidString(rel) {
			t.Fatalf("source %q has the path %q", m.Source, rel)
		}
	})
}

func FuzzPairs(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, ok := parsePairs(string(data)); ok && len(m.Text)+len(m.Source) > len(data) {
			t.Fatalf("%q: more came out than went in: %+v", data, m)
		}
	})
}

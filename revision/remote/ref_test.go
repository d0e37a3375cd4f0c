package remote

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// directory makes a working directory with what references may name.
func directory(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, name := range []string{"repo/json", "nick/device/json", "checkout/.pvr/json", "owner/checkout/.pvr/json", "all.tgz", "plain/file"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseReference(t *testing.T) {
	directory(t)
	tests := []struct {
		text, want string
		local      bool
	}{
		{"192.168.1.2", "http://192.168.1.2:12368/cgi-bin/pvr", false},
		{"192.168.1.2#bsp", "http://192.168.1.2:12368/cgi-bin/pvr#bsp", false},
		{"fe80::1", "http://[fe80::1]:12368/cgi-bin/pvr", false},
		{"fe80::1%eth0", "http://[fe80::1%25eth0]:12368/cgi-bin/pvr", false},
		{"[::1]#app", "http://[::1]:12368/cgi-bin/pvr#app", false},
		{"https://api.example.com/trails/1/", "https://api.example.com/trails/1", false},
		{"http://127.0.0.1:8095/trails/1#app,_config/app,-old/", "http://127.0.0.1:8095/trails/1#app,_config/app,-old", false},
		{"https://h/r##spec", "https://h/r##spec", false},
		{"https://h/r#a%20b", "https://h/r#a b", false},
		{"https://h/r#100%", "https://h/r#100%", false},
		{"https://h/r?x=1%2F2#a", "https://h/r?x=1%2F2#a", false},
		{"user/rpi4_latest", "https://pvr.pantahub.com/user/rpi4_latest", false},
		{"user/rpi4#bsp", "https://pvr.pantahub.com/user/rpi4#bsp", false},
		{"owner/checkout", "https://pvr.pantahub.com/owner/checkout", false},
		{"nick/device", "nick/device", true},
		{"repo", "repo", true},
		{"./repo#bsp", "./repo#bsp", true},
		{"checkout/.pvr", "checkout/.pvr", true},
		{"all.tgz#-bsp", "all.tgz#-bsp", true},
		{"plain/file", "plain/file", true},
	}
	for _, tc := range tests {
		ref, err := parseReference(tc.text, "")
		if err != nil || ref.String() != tc.want || ref.IsRemote() == tc.local {
			t.Errorf("%s: %q (remote %t), %v; want %q", tc.text, ref, ref.IsRemote(), err, tc.want)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	directory(t)
	tests := map[string]string{
		"":                       "empty",
		"#bsp":                   "empty",
		"device":                 "device nick is missing",
		"checkout":               "its repository is checkout/.pvr",
		"./owner/checkout":       "its repository is owner/checkout/.pvr",
		"a/b/c":                  "not a valid URL",
		"a/..":                   "not a valid URL",
		"../a":                   "not a valid URL",
		"a/b c":                  "not a valid URL",
		"/a":                     "not a valid URL",
		"ftp://host/x":           `scheme "ftp"`,
		"http://":                "names no host",
		"http://host:99999/":     "port",
		"http://host:x/":         "port",
		"https://u:secret@h/x":   "https://...@h/x",
		"http://secret@h?a#b":    "log in",
		"ftp://u:secret@h/x#a":   `scheme "ftp"`,
		"https://u:secret%zz@h/": "not a valid URL",
		"https://h/x#..":         "fragment",
		"https://h/x#a//b":       "fragment",
		"https://h/x#a,,b":       "fragment",
		"https://h/x\x00":        "not a valid URL",
		"1.2.3.4:8080":           "device nick is missing",
		"user/" + longName + "x": "not a valid URL",
	}
	for text, want := range tests {
		ref, err := parseReference(text, "")
		if err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.BadInput {
			t.Errorf("%q: %v, %v; want %q", text, ref, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the password is shown: %v", text, err)
		}
	}
	if _, err := parseReference("a/b", "pvr.example.com"); err == nil || !strings.Contains(err.Error(), "base URL") {
		t.Errorf("base URL without scheme: %v", err)
	}
	ref, err := parseReference("a/b", "http://127.0.0.1:9/x/")
	if err != nil || ref.String() != "http://127.0.0.1:9/x/a/b" {
		t.Errorf("%v, %v", ref, err)
	}
}

var longName = strings.Repeat("n", 255)

func TestReferenceParts(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, rev, name string }{
		{"https://h/trails/1", "", "1"},
		{"https://h/trails/1/steps/12", "12", "12"},
		{"http://1.2.3.4:12368/cgi-bin/pvr/steps/locals/x", "", "x"},
		{"u/dev", "", "dev"},
	}
	for _, tc := range tests {
		ref := mustRef(t, tc.text)
		if ref.Revision() != tc.rev || ref.Name() != tc.name {
			t.Errorf("%s: revision %q, name %q", tc.text, ref.Revision(), ref.Name())
		}
	}
	if got := (Reference{Path: "x/all.tgz"}).Name(); got != "all.tgz" {
		t.Error(got)
	}
}

// What is read is a URL that says the same when it is read again.
func FuzzParseReference(f *testing.F) {
	for _, text := range []string{"1.2.3.4#a", "fe80::1%eth0", "https://h/x?y#a,-b", "n/d##spec", "https://h:1/a%2Fb/../c", "http://[::1]:80//"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := parseReference(text, "")
		if err != nil || !ref.IsRemote() {
			return
		}
		again, err := ParseURL(ref.URL.String())
		if err != nil || again.String() != ref.URL.String() {
			t.Errorf("%q: %q, then %v, %v", text, ref.URL, again, err)
		}
		if ref.URL.Hostname() == "" || ref.URL.User != nil {
			t.Errorf("%q: %q", text, ref.URL)
		}
	})
}

// Addresses in messages are those that were asked, with the slash behind the host.
func TestShown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://hub.example": "https://hub.example/trails/summary", "https://hub.example/a/": "https://hub.example/a/trails/summary",
	} {
		u, err := ParseURL(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := shown(u.JoinPath("trails", "summary")); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

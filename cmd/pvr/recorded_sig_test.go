package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sigScene is a checkout of a recorded state, with the recorded keys beside it.
func sigScene(t *testing.T, stateFile string) *scene {
	t.Helper()
	s := newScene(t)
	keys := filepath.Join(recordings(t), "sig/keys")
	s.mkdir("keys")
	for _, name := range names(t, keys) {
		s.write(filepath.Join(s.work, "keys", name), s.read(filepath.Join(keys, name)))
	}
	s.must("init", "-o", "@WORK@/objs")
	s.setState(s.raw("sig/" + stateFile))
	return s
}

// setState makes a state the committed one and lays its signatures out.
func (s *scene) setState(text string) {
	s.t.Helper()
	s.write(".pvr/json", text)
	for key, v := range decoded(s.t, text).(map[string]any) {
		if strings.HasPrefix(key, "_sigs/") {
			doc, err := json.Marshal(v)
			if err != nil {
				s.t.Fatal(err)
			}
			s.write(key, string(doc))
		}
	}
}

func TestRecordedSigList(t *testing.T) {
	cases := load[struct {
		Cases []struct {
			Name  string  `json:"name"`
			Run   record  `json:"run"`
			State *string `json:"state_file"`
		} `json:"cases"`
	}](t, "sig/ls.json")
	other := map[string]string{
		"nothing-signed":                 "an unsigned repository lists all under notseen",
		"uncommitted-signature-implicit": "an unsigned repository, as nothing-signed",
		"raw-defaults-before-commit":     "the signature file was not recorded",
		"raw-defaults-after-commit":      "the signature file was not recorded",
		"uncommitted-signature-by-name":  "the signature file was not recorded with this state",
		"ca-not-pem":                     "the file that it names was not recorded",
	}
	for _, c := range cases.Cases {
		t.Run(c.Name, func(t *testing.T) {
			if why, ok := other[c.Name]; ok && c.Name != "nothing-signed" {
				t.Skip(why)
			}
			name := "state-unsigned.json"
			if c.State != nil {
				name = *c.State
			}
			s := sigScene(t, name)
			got := s.run(c.Run.Cmd[1:]...)
			if got.rc != c.Run.RC {
				t.Fatalf("exit code %d (%s), recorded %d", got.rc, got.stderr, c.Run.RC)
			}
			if c.Name == "nothing-signed" {
				if !strings.HasPrefix(got.stdout, "{\n    \"notseen\": [\n        \"#spec\",\n") {
					t.Errorf("%s", got.stdout)
				}
				return
			}
			if diff := cmp.Diff(c.Run.Stdout, got.stdout); diff != "" {
				t.Errorf("(-recorded +got):\n%s", diff)
			}
			// The words differ behind the first: the payload is not printed.
			if c.Run.RC == 0 != (got.stderr == "") {
				t.Errorf("stderr %q, recorded %q", got.stderr, c.Run.Stderr)
			}
		})
	}
}

func TestRecordedSigUpdate(t *testing.T) {
	s := sigScene(t, "state-3-strict.json")
	for _, c := range load[[]struct {
		Name  string `json:"name"`
		Run   record `json:"run"`
		File  string `json:"file"`
		State string `json:"state"`
	}](t, "sig/update.json") {
		t.Run(c.Name, func(t *testing.T) {
			sub := *s
			sub.t = t
			if c.Name == "stale" { // what was changed was not recorded: any object of the part does
				st := decoded(t, sub.read(".pvr/json")).(map[string]any)
				st["webui/root.squashfs"] = strings.Repeat("ab", 32)
				text, err := json.Marshal(st)
				if err != nil {
					t.Fatal(err)
				}
				sub.write(".pvr/json", string(text))
			}
			got := sub.run(c.Run.Cmd[1:]...)
			if got.rc != c.Run.RC || got.stdout != c.Run.Stdout {
				t.Errorf("%+v\nrecorded %+v", got, c.Run)
			}
			if strings.Contains(strings.Join(c.Run.Cmd, " "), " up") {
				if diff := cmp.Diff(c.Run.Stderr, got.stderr); diff != "" {
					t.Errorf("(-recorded +got):\n%s", diff)
				}
				sub.recommit()
			}
			if c.File != "" {
				key := "_sigs/webui.json"
				if strings.Contains(c.Name, "sensor") || strings.HasPrefix(c.Name, "up-alias") {
					key = "_sigs/sensor.json"
				}
				if diff := cmp.Diff(protectedOf(t, c.File), protectedOf(t, sub.read(key))); diff != "" {
					t.Errorf("protected (-recorded +got):\n%s", diff)
				}
			}
		})
	}
}

// recommit takes the signatures of the tree up; there are no other files.
func (s *scene) recommit() {
	s.t.Helper()
	st := decoded(s.t, s.read(".pvr/json")).(map[string]any)
	for key := range st {
		if strings.HasPrefix(key, "_sigs/") {
			st[key] = decoded(s.t, s.read(key))
		}
	}
	text, err := json.Marshal(st)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(".pvr/json", string(text))
}

func protectedOf(t *testing.T, doc string) string {
	t.Helper()
	text, _ := decoded(t, doc).(map[string]any)["protected"].(string)
	if text == "" {
		t.Fatalf("no signature: %.200s", doc)
	}
	return text
}

func TestRecordedSigAdd(t *testing.T) {
	cases := load[struct {
		Cases []struct {
			Name string `json:"name"`
			Run  record `json:"run"`
			File string `json:"file"`
			Text string `json:"file_content"`
		} `json:"cases"`
	}](t, "sig/add.json")
	for _, c := range cases.Cases {
		t.Run(c.Name, func(t *testing.T) {
			s := sigScene(t, "state-unsigned.json")
			got := s.run(c.Run.Cmd[1:]...)
			switch {
			case c.Name == "part-p521": // the device's manual names ES512
				if got.rc != 0 {
					t.Errorf("ES512: %+v", got)
				}
				return
			case got.rc != c.Run.RC && c.Name == "part-no-such-part":
				if got.rc != 127 || !strings.Contains(got.stderr, "ghost") {
					t.Errorf("a signature over nothing: %+v", got)
				}
				return
			case got.rc != c.Run.RC:
				t.Fatalf("%+v, recorded exit code %d", got, c.Run.RC)
			}
			if c.Run.RC != 0 {
				if got.stderr == "" {
					t.Error("no word on why")
				}
				return
			}
			text := s.read(c.File)
			if strings.Contains(c.Name, "raw") { // the recording excludes "_sigs/.json" for want of the name
				return
			}
			if strings.Contains(strings.Join(c.Run.Cmd, " "), "rsa") {
				if diff := cmp.Diff(c.Text, text); diff != "" {
					t.Errorf("(-recorded +got):\n%s", diff)
				}
			} else if diff := cmp.Diff(protectedOf(t, c.Text), protectedOf(t, text)); diff != "" {
				t.Errorf("protected (-recorded +got):\n%s", diff)
			}
		})
	}
}

func TestRecordedDefaultKeys(t *testing.T) {
	cases := load[struct {
		Cases []struct {
			Name string `json:"name"`
			Run  record `json:"run"`
		} `json:"cases"`
	}](t, "sig/default-keys.json")
	for _, c := range cases.Cases {
		t.Run(c.Name, func(t *testing.T) {
			name := "state-unsigned.json"
			if strings.HasPrefix(c.Name, "ls-") {
				name = "state-3-strict.json"
			}
			s := sigScene(t, name)
			if c.Name == "keys-in-config-dir" {
				untar(t, filepath.Join(recordings(t), "sig/pvs.defaultkeys.tar.gz"), filepath.Join(s.work, "cfgdir"))
			}
			got := s.runInput("no\nno\n", c.Run.Cmd[1:]...)
			if got.rc != c.Run.RC {
				t.Fatalf("%+v, recorded exit code %d", got, c.Run.RC)
			}
			if c.Run.RC == 0 {
				protectedOf(t, s.read("_sigs/webui.json"))
			} else if !strings.HasPrefix(got.stderr, "Do you want to download the default developer keys") {
				t.Errorf("%s", got.stderr)
			}
		})
	}
}

// The tarball that --certs-url names is unpacked below the config directory.
func TestDefaultKeysFromTarball(t *testing.T) {
	s := sigScene(t, "state-unsigned.json")
	tarball := filepath.Join(recordings(t), "sig/pvs.defaultkeys.tar.gz")
	got := s.runInput("yes\n", "-c", "@WORK@/cfg", "sig", "--certs-url", tarball, "add", "-p", "webui")
	if got.rc != 0 {
		t.Fatalf("%+v", got)
	}
	protectedOf(t, s.read("_sigs/webui.json"))
	for _, name := range []string{"key.default.pem", "x5c.default.pem", "cacerts.default.pem"} {
		info, err := os.Stat(filepath.Join(s.work, "cfg/pvs", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", name, fmt.Sprint(info, err))
		}
	}
}

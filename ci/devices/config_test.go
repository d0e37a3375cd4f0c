package devices

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/yamlfile/schematest"
)

var schema = schematest.Schema{
	File: "device-ci.schema.json", Title: ConfigName, Package: "github.com/pantavisor/pantavisor/ci/devices", Of: &Config{},
}

func TestSchema(t *testing.T) { schema.Current(t) }

// manual is the example of the manual, with values for its gaps.
const manual = `{
  "yml_template": "update-ci.yml",
  "device_list": [
    {
      "id": "rpi3_initial",
      "schedule": "rpi3_initial_latest",
      "tag": "rpi3_initial_stable",
      "image_channel": "",
      "build": [
        {
          "name": "default",
          "options": "PANTAVISOR_DEBUG=yes"
        }
      ]
    }
  ]
}
`

func TestManual(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"as it is": manual, "with tabs": strings.ReplaceAll(manual, "  ", "\t"), "in one line": strings.ReplaceAll(manual, "\n", "")} {
		got, err := parse(ConfigName, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := &Config{Template: "update-ci.yml", Devices: []Device{{
			ID: "rpi3_initial", Schedule: "rpi3_initial_latest", Tag: "rpi3_initial_stable",
			Builds: []Build{{Name: "default", Options: "PANTAVISOR_DEBUG=yes"}},
		}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if err := schema.Validator(t).Validate(t, []byte(manual)); err != nil {
			t.Error(err)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	device := `{"id":"a","schedule":"s","tag":"t"}`
	with := func(members string) string { return strings.TrimSuffix(device, "}") + "," + members + "}" }
	for text, want := range map[string]string{
		``:                           "reading device-ci.conf.json: unexpected end of JSON input",
		`[]`:                         "device-ci.conf.json:1:1",
		`{"device_list":[]}`:         "yml_template",
		`{"yml_template":"a/b"}`:     "the name of a file without directories is expected",
		`{"yml_template":"a","x":1}`: "x",
		listing(`{"id":"a"}`):        "schedule",
		listing(strings.Replace(device, `"a"`, `"../a"`, 1)):              "id",
		listing(device + "," + device):                                    "another device has the name a",
		listing(strings.Replace(device, `"s"`, `"x y"`, 1)):               "schedule: ",
		listing(strings.Replace(device, `"t"`, `"x#bsp"`, 1)):             "selects parts",
		listing(with(`"image_channel":"stable"`)):                         "for devices without image_channel",
		listing(with(`"image_channel":"rc1"`)):                            "for devices without image_channel",
		listing(with(`"image_channel":"A B"`)):                            "image_channel",
		listing(with(`"target":"../x"`)):                                  "target",
		listing(with(`"build":[{"name":"x"},{"name":"x"}]`)):              "another image is a-x, too",
		listing(with(`"build":[{"name":"x","options":"--privileged"}]`)):  "is not NAME=VALUE",
		listing(with(`"build":[{"name":"x","options":"A=1 $(reboot)"}]`)): "is not NAME=VALUE",
		listing(`{"id":"a","schedule":"s","tag":"t","build":[{"name":"b-c"}]},{"id":"a-b","schedule":"s","tag":"t","build":[{"name":"c"}]}`):     "another image is a-b-c, too",
		listing(`{"id":"a","schedule":"s","tag":"t","build":[{"name":"b"}]},{"id":"a-b","schedule":"s","tag":"t","build":[{"name":"default"}]}`): "another image is a-b, too",
		listing(with(`"build":[{"options":""}]`)): "name",
	} {
		_, err := parse(ConfigName, []byte(text))
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

func listing(devices string) string {
	return `{"yml_template":"update-ci.yml","device_list":[` + devices + `]}`
}

func TestNamesOfDevices(t *testing.T) {
	t.Parallel()
	p, err := openPlaces("/project", []string{"PHUSER=bot", "PVR_REPO_BASEURL=x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"./devices/a":                     "directory /project/devices/a",
		"/srv/a":                          "directory /srv/a",
		"../a":                            "directory /a",
		"a_latest":                        "hub https://pvr.pantahub.com/bot/a_latest",
		"other/a.b":                       "hub https://pvr.pantahub.com/other/a.b",
		"https://example.com/trails/x":    "hub https://example.com/trails/x",
		"192.168.0.17":                    "hub http://192.168.0.17:12368/cgi-bin/pvr",
		"s3://bucket/a prefix":            "bucket s3://bucket/a prefix",
		"ftp://x/y":                       "",
		"a b":                             "",
		"":                                "",
		"https://user:secret@example.com": "",
	} {
		at, err := p.open(name)
		got := ""
		switch at := at.(type) {
		case *directory:
			got = "directory " + filepath.ToSlash(at.dir)
		case *hub:
			got = "hub " + at.ref.String()
		case *bucket:
			got = "bucket " + at.store.String()
		}
		if got != want || (err == nil) != (want != "") || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %s, %v; want %q", name, got, err, want)
		}
	}
}

func TestChannel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ tag, device, want string }{
		{"019", "", "stable"}, {"1.0.2", "", "stable"}, {"020-rc46", "", "release-candidate"}, {"020-rc", "", "release-candidate"},
		{"019", "edge", ""}, {"020-rc1", "edge", ""}, {"020-edge", "edge", "edge"}, {"020-edge", "", ""}, {"020-edgey", "edge", ""},
		{"020-rc1-edge", "edge", "edge"}, {"020-rc1-edge", "", ""}, {"020-my-edge", "my-edge", "my-edge"}, {"020-ledge", "edge", ""},
	} {
		if got := channel(c.tag, c.device); got != c.want {
			t.Errorf("tag %s, channel %q: %q, want %q", c.tag, c.device, got, c.want)
		}
	}
}

func TestInitIsReadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Init(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(got); err != nil || string(text) != string(want) {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	if _, err := Init(t.Context(), dir); fault.Of(err) != fault.BadInput {
		t.Errorf("a second time: %v", err)
	}
}

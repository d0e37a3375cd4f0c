package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// offset is where the storage of the test image begins.
const offset = 1 << 20

// atOffset writes behind the partition table.
type atOffset struct{ *os.File }

func (a atOffset) WriteAt(p []byte, at int64) (int, error) { return a.File.WriteAt(p, offset+at) }

// newDiskImage makes an image of a device, 24 MiB.
func newDiskImage(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(24 << 20); err != nil {
		t.Fatal(err)
	}
	entries := []tree.Entry{{Name: "config", Mode: fs.ModeDir | 0o755}, {
		Name: personal.Name, Mode: 0o600, Size: personal.Size, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(personal.Blank())), nil },
	}}
	if err := ext4.Write(t.Context(), atOffset{f}, entries, ext4.Options{Size: 20 << 20}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(oracle.Program(t, "sgdisk"), "-n", "1:2048:+20M", name).CombinedOutput(); err != nil {
		t.Fatalf("sgdisk: %v: %s", err, out)
	}
}

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1aVtdZdPhkPnE0tOfTzCG7YsZ2TRhQbTNmYRWl2Dz1 me@example"

func TestPersonalize(t *testing.T) {
	w, out := empty(t)
	image := filepath.Join(w.Root, "disk.img")
	newDiskImage(t, image)
	blank, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	sums := filepath.Join(w.Root, "SHA256SUMS")
	if err := errors.Join(os.WriteFile(sums, []byte("00 disk.img\n"), 0o644), os.WriteFile(filepath.Join(w.Root, "key.pub"), []byte(testKey+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	run := func(o PersonalizeOptions) map[string]any {
		t.Helper()
		out.Reset()
		w.JSON = true
		if err := w.Personalize(t.Context(), "disk.img", o); err != nil {
			t.Fatal(err)
		}
		return decode(t, out.String())[0]
	}
	got := run(PersonalizeOptions{
		Hub: "hub.example.com:8443", Token: "@-", Stdin: strings.NewReader("s3cret\n"), Hostname: "sensor-7", IPv4: "192.168.1.7/24/192.168.1.1",
		DNS: "192.168.1.1,fd00::1", SSHKey: "key.pub", Meta: []string{"PV_LOG_LEVEL=5", "app/color=a=b"},
	})
	want := map[string]any{
		"PH_CREDS_HOST": "hub.example.com", "PH_CREDS_PORT": "8443", "PH_FACTORY_AUTOTOK": "********", "hostname": "sensor-7", "network/hostname": "sensor-7",
		"network/pvnet_ipv4": "192.168.1.7/24/192.168.1.1", "network/pvnet_dns": "192.168.1.1,fd00::1", "pvr-sdk.authorized_keys": testKey + "\n",
		"PV_LOG_LEVEL": "5", "app/color": "********",
	}
	if diff := cmp.Diff(want, got["settings"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{sums}, got["stale"]); diff != "" {
		t.Error(diff)
	}
	got = run(PersonalizeOptions{Show: true, Secrets: true})
	if s := got["settings"].(map[string]any); s["PH_FACTORY_AUTOTOK"] != "s3cret" || s["app/color"] != "a=b" || got["stale"] != nil {
		t.Errorf("%v", got)
	}
	got = run(PersonalizeOptions{WiFi: "Home", WiFiPassword: "hunter22", Container: "wifi", Unset: []string{"network/pvnet_ipv4", "app/color"}})
	s := got["settings"].(map[string]any)
	if s["wifi/pvnet_pass"] != "********" || s["wifi/pvnet_security"] != "psk" || s["wifi/pvnet_type"] != "wifi" || s["network/pvnet_ipv4"] != nil || s["hostname"] != "sensor-7" {
		t.Errorf("%v", s)
	}
	if got = run(PersonalizeOptions{WiFi: "Open", Container: "wifi"}); got["settings"].(map[string]any)["wifi/pvnet_pass"] != nil {
		t.Errorf("the password of another network is left: %v", got)
	}
	if got = run(PersonalizeOptions{Remove: true, Hostname: "other"}); len(got["settings"].(map[string]any)) != 2 {
		t.Errorf("%v", got)
	}
	w.JSON = false
	out.Reset()
	if err := w.Personalize(t.Context(), "disk.img", PersonalizeOptions{}); err != nil || out.String() != "hostname=other\nnetwork/hostname=other\n" {
		t.Errorf("%v: %s", err, out)
	}
	if strings.Contains(messages(w)+out.String(), "hunter22") {
		t.Error("a password was shown")
	}
	if err := w.Personalize(t.Context(), "disk.img", PersonalizeOptions{Remove: true}); err != nil {
		t.Error(err)
	}
	if now, err := os.ReadFile(image); err != nil || !bytes.Equal(now, blank) {
		t.Errorf("removed, and the image is not what it was: %v", err)
	}
	out.Reset()
	if err := w.Personalize(t.Context(), "disk.img", PersonalizeOptions{Show: true}); err != nil || !strings.Contains(out.String(), "has no settings of a single device") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStale: files with the digest of an image, and no others with its name in another one.
func TestStale(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"00  a.img\n": true, "00 *a.img\n": true, "00  ./out/a.img\n": true, "SHA256 (a.img) = 00\n": true, `{"name":"a.img"}`: true, "a.img": true,
		"00  data.img\n": false, "00  a.img.xz\n00  my-a.img\n": false, "00  a_img\n": false, "": false,
	} {
		dir := t.TempDir()
		sums := filepath.Join(dir, "SHA256SUMS")
		if err := os.WriteFile(sums, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := stale(filepath.Join(dir, "a.img")); (len(got) == 1) != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	dir := t.TempDir()
	report := build.Report{Artefacts: []build.Published{{Path: "a.img"}}}
	data, err := json.Marshal(report)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, build.ReportName), data, 0o644)); err != nil {
		t.Fatal(err)
	}
	if got := stale(filepath.Join(dir, "a.img")); len(got) != 1 {
		t.Errorf("a report: %q", got)
	}
}

// TestPersonalizeInput: what the device could not use is told before the image is opened.
func TestPersonalizeInput(t *testing.T) {
	w, _ := empty(t)
	if err := os.WriteFile(filepath.Join(w.Root, "private"), []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.Root, "disk.img"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    PersonalizeOptions
		text string
	}{
		"hub":              {PersonalizeOptions{Hub: "a b"}, "--hub: want HOST or HOST:PORT"},
		"port":             {PersonalizeOptions{Hub: "hub:99999"}, "--hub: the port"},
		"token":            {PersonalizeOptions{Token: "a b"}, "no blanks"},
		"empty token":      {PersonalizeOptions{Token: "@-", Stdin: strings.NewReader("\n")}, "--token: its value is empty"},
		"no such file":     {PersonalizeOptions{Token: "@none"}, "--token: reading its value"},
		"host name":        {PersonalizeOptions{Hostname: "a_b"}, "not a valid host name"},
		"long host name":   {PersonalizeOptions{Hostname: strings.Repeat("a", 65)}, "more than 64"},
		"address":          {PersonalizeOptions{IPv4: "1.2.3.4"}, "--ipv4: pvnet_ipv4=1.2.3.4: must be off, dhcp or"},
		"two words":        {PersonalizeOptions{DNS: "1.1.1.1 init=/bin/sh"}, "--dns: its value has a blank"},
		"interface":        {PersonalizeOptions{Interface: "../x"}, "--ifname"},
		"type":             {PersonalizeOptions{NetType: "x"}, "--nettype"},
		"container":        {PersonalizeOptions{Container: "../x", IPv4: "dhcp"}, "not the name of a container"},
		"password alone":   {PersonalizeOptions{WiFiPassword: "hunter22"}, "--wifi: it names the network"},
		"short password":   {PersonalizeOptions{WiFi: "x", WiFiPassword: "short"}, "8 to 63 characters"},
		"long SSID":        {PersonalizeOptions{WiFi: strings.Repeat("x", 33)}, "32 bytes"},
		"security":         {PersonalizeOptions{WiFi: "x", WiFiPassword: "12345678", WiFiSecurity: "pks"}, "did you mean psk"},
		"no password":      {PersonalizeOptions{WiFi: "x", WiFiSecurity: "psk"}, "wants no password, and all others do"},
		"private key":      {PersonalizeOptions{SSHKey: "private"}, "must not leave this machine"},
		"no key":           {PersonalizeOptions{SSHKey: "ssh-ed25519 AAAA me"}, "line 1 is not a public key"},
		"meta":             {PersonalizeOptions{Meta: []string{"x"}}, "want KEY=VALUE"},
		"meta key":         {PersonalizeOptions{Meta: []string{"../x=1"}}, "begins with a dot"},
		"meta of the Hub":  {PersonalizeOptions{Meta: []string{"PH_CREDS_HOST=x"}}, "--hub and --token"},
		"unknown setting":  {PersonalizeOptions{Meta: []string{"PV_LOG_LEVELL=5"}}, "unknown key"},
		"value of setting": {PersonalizeOptions{Meta: []string{"PV_LOG_LEVEL=loud"}}, "PV_LOG_LEVEL"},
		"binary value":     {PersonalizeOptions{Meta: []string{"x=\xff"}}, "not UTF-8"},
		"show and set":     {PersonalizeOptions{Show: true, Hostname: "x"}, "--show shows"},
		"copy of nothing":  {PersonalizeOptions{To: "x.img"}, "there is no change"},
	} {
		err := w.Personalize(t.Context(), "disk.img", c.o)
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), "12345678")) {
			t.Errorf("%s: a password is shown: %v", name, err)
		}
	}
	both := w.Personalize(t.Context(), "disk.img", PersonalizeOptions{Hostname: "a b", IPv4: "x"})
	if !strings.Contains(both.Error(), "--hostname") || !strings.Contains(both.Error(), "--ipv4") {
		t.Errorf("not all problems are told: %v", both)
	}
	newDiskImage(t, filepath.Join(w.Root, "disk.img"))
	if err := w.Personalize(t.Context(), "disk.img", PersonalizeOptions{Unset: []string{"hostname"}}); fault.Of(err) != fault.BadInput {
		t.Errorf("unset of nothing: %v", err)
	}
	err := w.Personalize(t.Context(), "disk.img", PersonalizeOptions{IPv4: "dhcp", Meta: []string{"network=x"}})
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), `"network" cannot stand beside`) {
		t.Errorf("keys that the device would not take: %v", err)
	}
}

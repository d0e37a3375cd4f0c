package releases

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	sorted := []string{"", "018", "019", "020-rc1", "020-rc2", "020-rc10", "020", "20.1", "21~beta", "21", "21a", "100", "v1", "v1.0.9", "v1.0.10"}
	got := slices.Clone(sorted)
	slices.Reverse(got)
	slices.SortFunc(got, Compare)
	if diff := cmp.Diff(sorted, got); diff != "" {
		t.Error(diff)
	}
}

func TestChannelOf(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"019": Stable, "1.2.3": Stable, "019-rc": Candidate, "019-rc2": Candidate, "1.0-rc.3": Candidate, "019-develop": "develop", "019-my_own-line": "my_own-line",
		"019-5-g7ab223a": Unknown, "019-": Unknown, "019-Ä": Unknown, "1-rcx": "rcx",
	} {
		if got := ChannelOf(version); got != want {
			t.Errorf("ChannelOf(%q) = %q, want %q", version, got, want)
		}
	}
	for name, good := range map[string]bool{"stable": true, Candidate: true, "a/b": false, "": false, "-x": false, "..": false, "index": true} {
		if err := CheckChannel(name); (err == nil) != good {
			t.Errorf("CheckChannel(%q): %v", name, err)
		}
	}
}

// forms is a catalogue with all forms that there have been.
const forms = `{"stable": {
  "018": [{"name":"rpi","full_image":{"url":"https://x/1","sha256":"aa"}}, {"timestamp":"2024-01-01 00:00"}],
  "019": {"timestamp":"2024-02-01 00:00","devices":[{"name":"rpi"}]},
  "020": {"release-date":"2024-03-01 00:00","docs":{"name":"d","hash":"h","url":"u"},"more":1,
          "devices":[{"name":"rpi","sdk":{"url":"s","sha256":"bb"},"other":[]},{"name":"x64"}]}},
 "release-candidate": {"021-rc1": {"release-date":"2024-04-01 00:00","devices":[{"name":"rpi"}]}},
 "unknown": {}}`

func TestCatalogueForms(t *testing.T) {
	t.Parallel()
	c, err := ParseCatalogue([]byte(forms))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*Version{
		"018": {Date: "2024-01-01 00:00", Devices: []Device{{Name: "rpi", FullImage: &Link{"https://x/1", "aa"}}}},
		"019": {Date: "2024-02-01 00:00", Devices: []Device{{Name: "rpi"}}},
		"020": {Date: "2024-03-01 00:00", Docs: &Docs{"d", "h", "u"}, Devices: []Device{{Name: "rpi", SDK: &Link{"s", "bb"}}, {Name: "x64"}}},
	}
	if diff := cmp.Diff(want, c[Stable]); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"", "[]", `"x"`, `{"stable":[]}`, `{"stable":{"1":null}}`, `{"stable":{"1":{"devices":{}}}}`, `{"stable":{"1":3}}`} {
		if _, err := ParseCatalogue([]byte(text)); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	c, err := ParseCatalogue([]byte(forms))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct{ name, channel, version, want string }{
		{"rpi", "", "", "020 stable"},
		{"rpi", Candidate, "", "021-rc1 release-candidate"},
		{"rpi", "", "021-rc1", "021-rc1 release-candidate"},
		{"rpi", "", "018", "018 stable"},
		{"rpi", Candidate, "018", "it has 021-rc1 (release-candidate), 020 (stable), 019 (stable), 018 (stable)"},
		{"x64", Candidate, "", "no release of x64 in the channel release-candidate"},
		{"rpj", "", "", "did you mean rpi?"},
	} {
		f, err := c.Find(q.name, q.channel, q.version)
		got := fmt.Sprint(err)
		if err == nil {
			got = f.Version + " " + f.Channel
		}
		if !strings.Contains(got, q.want) {
			t.Errorf("%+v: %s", q, got)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	if sbomFile != images.SBOMFile || sbomDir != images.SBOMDir {
		t.Errorf("package images has the bills of materials in %s and %s", images.SBOMFile, images.SBOMDir)
	}
	for name, want := range map[string]string{
		"x-pv-4096MiB.img": "image", "x.img.xz": "image", "x.img.bmap": "bmap", "x.pvr.tgz": "bsp", "x-revision.pvr.tgz": "revision", "x.qcow2": "disk", "x.ubi": "flash",
		"x.rootfs.tar.xz": "rootfs", "x-tezi.tar": "installer", "x.tgz": "package", "sbom.json": "sbom", "sbom/bsp.spdx.zst": "sbom", "x/y": "file",
	} {
		if got := kindOf(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// digest is one of nothing in particular.
var digest = strings.Repeat("0123456789abcdef", 4)

func TestIndex(t *testing.T) {
	t.Parallel()
	x := &Index{Format: IndexFormat, Target: "x64", Version: "1.0"}
	for name, size := range map[string]int64{"a.img": 100, "a.img.xz": 9, "a.img.zst": 10, "a.img.bmap": 1, "a.qcow2": 3} {
		x.Add(name, size, digest)
	}
	x.SetForms()
	plain, small := x.Image()
	if plain.Name != "a.img" || small.Name != "a.img.xz" || small.Compression != "xz" || x.Map().Name != "a.img.bmap" {
		t.Errorf("image %+v, smallest %+v, map %+v", plain, small, x.Map())
	}
	text, err := x.Text()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseIndex(text); err != nil || cmp.Diff(x, got) != "" {
		t.Errorf("%v %s", err, cmp.Diff(x, got))
	}
	for _, bad := range []string{`"target": "../x"`, `"target": ".x"`, `"version": "1/0"`, `"format": "pantavisor-release@2"`} {
		key, _, _ := strings.Cut(bad, ":")
		var lines []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "  "+key) {
				line = "  " + bad + ",\n"
			}
			lines = append(lines, line)
		}
		if _, err := ParseIndex([]byte(strings.Join(lines, ""))); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	for _, f := range []File{{Name: "../x", SHA256: digest}, {Name: "/x", SHA256: digest}, {Name: "x\n", SHA256: digest}, {Name: "x", SHA256: "A" + digest[1:]}, {Name: "x", SHA256: digest, Bytes: -1}, {Name: "a.img", SHA256: digest}} {
		y := *x
		y.Files = append(slices.Clone(x.Files), f)
		text, _ := y.Text()
		if _, err := ParseIndex(text); fault.Of(err) != fault.BadInput {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func FuzzParseCatalogue(f *testing.F) {
	f.Add([]byte(forms))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseCatalogue(text)
		if err != nil {
			return
		}
		for _, versions := range c {
			for _, v := range versions {
				for _, d := range v.Devices {
					if _, err := c.Find(d.Name, "", ""); err == nil {
						continue
					}
					d.Links()
				}
			}
		}
	})
}

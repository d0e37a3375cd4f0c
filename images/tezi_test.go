package images

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// unpackTar unpacks an archive with tar, as root with owners.
func unpackTar(t *testing.T, file string) string {
	t.Helper()
	oracle.Need(t, "tar", "xz")
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xf", file).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return dir
}

func TestStorageAsArchive(t *testing.T) {
	t.Parallel()
	r, root := newRunner(t), boardTree(t)
	s := &StorageTar{Storage: storage(root)}
	file := filepath.Join(r.must(s), tarFile)
	if out, err := exec.Command(oracle.Program(t, "xz"), "-t", file).CombinedOutput(); err != nil {
		t.Errorf("xz -t: %v: %s", err, out)
	}
	dir := unpackTar(t, file)
	want := r.must(s.Storage)
	if out, err := exec.Command("diff", "-r", filepath.Join(want, StorageDir), dir).CombinedOutput(); err != nil {
		t.Errorf("diff: %v: %s", err, out)
	}
	kernel, err1 := os.Stat(filepath.Join(dir, "trails/0/bsp/kernel.img"))
	link, err2 := os.Stat(filepath.Join(dir, "trails/0/.pv/pv-kernel.img"))
	if err1 != nil || err2 != nil || !os.SameFile(kernel, link) {
		t.Errorf("the links to objects are gone: %v, %v", err1, err2)
	}
	again := filepath.Join(newRunner(t).must(&StorageTar{Storage: storage(root)}), tarFile)
	if out, err := exec.Command("cmp", file, again).CombinedOutput(); err != nil {
		t.Errorf("the same storage gives another archive: %s", out)
	}
}

func TestBundleForTheEasyInstaller(t *testing.T) {
	t.Parallel()
	blobs := &made{"blobs", map[string]string{"usr/lib/SPL": "spl", "usr/lib/u-boot.img": strings.Repeat("u", mib/2), "u-boot.imx": "imx"}}
	esp := &made{"uboot/boot", map[string]string{"boot.scr": "script"}}
	from := func(name string) Artefact { return Artefact{blobs, name} }
	s := &TeziBundle{
		Target: "colibri", Release: "1.2",
		Partitions: []Partition{{Name: "pvboot", Role: "boot", Size: 64 * mib}, {Name: "pvenv", Role: "env", Size: mib}, {Name: "pvroot", Role: "root"}},
		Root:       &StorageTar{Storage: storage(boardTree(t))},
		Boot:       &FilesTar{Role: "boot", Files: []RoleFiles{{"boot", Artefact{Step: esp}}}},
		Tezi: Tezi{Name: "Pantavisor", Modules: []TeziModule{
			{Name: "colibri-imx6dl", Products: []string{"0014"}, Environment: []string{"#localargs=a", "localargs=b"}, Blobs: []TeziBlob{
				{Name: "spl", File: from("usr/lib/SPL"), Sector: 2}, {Name: "u-boot", File: from("usr/lib/u-boot.img"), Sector: 138},
			}},
			{Name: "colibri-imx6ull", Products: []string{"0036"}, NAND: true, Volume: "boot", Blobs: []TeziBlob{{Name: "u-boot", File: from("u-boot.imx"), Partition: "u-boot1"}}},
		}},
	}
	dir := filepath.Join(unpackTar(t, filepath.Join(newRunner(t).must(s), teziFile)), "colibri-tezi")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{
		"boot.tar.xz", "colibri-imx6dl.SPL", "colibri-imx6dl.u-boot.img", "colibri-imx6ull.u-boot.imx", "image-colibri-imx6dl.json", "image-colibri-imx6ull.json",
		"root.tar.xz", "uEnv.colibri-imx6dl.txt", "uEnv.colibri-imx6ull.txt",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "uEnv.colibri-imx6dl.txt")); string(text) != "#localargs=a\nlocalargs=b\n" {
		t.Errorf("%q: %v", text, err)
	}
	for module, want := range map[string]string{
		"colibri-imx6dl": `{"blockdevs":[{"name":"mmcblk0","partitions":[` +
			`{"content":{"filename":"boot.tar.xz","filesystem_type":"FAT","label":"pvboot","mkfs_options":"","uncompressed_size":0},"partition_size_nominal":64,"want_maximised":false},` +
			`{"content":{"filename":"root.tar.xz","filesystem_type":"ext4","label":"pvroot","mkfs_options":"-E nodiscard","uncompressed_size":0},"partition_size_nominal":65,"want_maximised":true}]},` +
			`{"content":{"filesystem_type":"raw","rawfiles":[{"dd_options":"seek=2","filename":"colibri-imx6dl.SPL"},{"dd_options":"seek=138","filename":"colibri-imx6dl.u-boot.img"}]},"erase":true,"name":"mmcblk0boot0"}]}`,
		"colibri-imx6ull": `{"mtddevs":[{"content":{"rawfile":{"filename":"colibri-imx6ull.u-boot.imx","size":0}},"name":"u-boot1"},{"content":{},"erase":true,"name":"u-boot-env"},` +
			`{"name":"ubi","ubivolumes":[{"content":{"filename":"root.tar.xz","filesystem_type":"ubifs","uncompressed_size":0},"name":"boot"}]}]}`,
	} {
		image := checkTezi(t, filepath.Join(dir, "image-"+module+".json"), want)
		for _, name := range filenames(image) {
			if !slices.Contains(names, name) {
				t.Errorf("%s: there is no file %s", module, name)
			}
		}
	}
}

// teziKeys are the keys that Toradex documents for the top of image.json.
var teziKeys = []string{"autoinstall", "blockdevs", "config_format", "description", "mtddevs", "name", "release_date", "supported_product_ids", "u_boot_env", "version"}

// checkTezi compares the devices of an image.json, without the sizes of contents.
func checkTezi(t *testing.T, file, want string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var image map[string]any
	if err := json.Unmarshal(text, &image); err != nil {
		t.Fatal(err)
	}
	devices := map[string]any{}
	for key, value := range image {
		if !slices.Contains(teziKeys, key) {
			t.Errorf("%s: key %s is not documented", file, key)
		}
		if strings.HasSuffix(key, "devs") {
			devices[key] = withoutSizes(t, value)
		}
	}
	got, err := json.Marshal(devices)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s: %s", file, diff)
	}
	if image["config_format"] != 2.0 || image["version"] != "1.2" || image["release_date"] != "2020-01-01" {
		t.Errorf("%s: %s", file, text)
	}
	return image
}

// withoutSizes sets the sizes of contents to 0 and checks that they were not.
func withoutSizes(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = withoutSizes(t, v[i])
		}
	case map[string]any:
		for key, value := range v {
			if key == "uncompressed_size" || key == "size" {
				if n, ok := value.(float64); !ok || n <= 0 {
					t.Errorf("%s is %v", key, value)
				}
				v[key] = 0
				continue
			}
			v[key] = withoutSizes(t, value)
		}
	}
	return v
}

// filenames returns the files that an image.json names.
func filenames(v any) []string {
	var out []string
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			out = append(out, filenames(e)...)
		}
	case map[string]any:
		for key, value := range v {
			if name, ok := value.(string); ok && (key == "filename" || key == "u_boot_env") {
				out = append(out, name)
			}
			out = append(out, filenames(value)...)
		}
	}
	return out
}

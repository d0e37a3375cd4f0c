package inputs

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/manifest"
)

// checkout writes the files of a revision's part app.
func checkout(t *testing.T, out string) string {
	t.Helper()
	dir := t.TempDir()
	st, store := storeOf(t, out)
	for _, key := range st.Keys() {
		if !strings.HasPrefix(key, "app/") {
			continue
		}
		file := filepath.Join(dir, key)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		text, _ := st.Get(key)
		if sum, ok := st.Object(key); ok {
			in, err := store.Open(sum)
			must(t, err)
			text, err = io.ReadAll(in)
			must(t, err)
			must(t, in.Close())
		}
		must(t, os.WriteFile(file, text, 0o644))
	}
	return dir
}

// TestVerity has the reference program verify the hash tree of each form of a root file system,
// the device's parser read the container, and pvr make the tree again.
func TestVerity(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "veritysetup")
	dir, list := product(t)
	writeForms(t, dir, appFiles())
	writeOCI(t, filepath.Join(dir, "oci"))
	list["outputs"] = []any{"revision", "appengine"}
	for _, field := range []string{"kernel", "image", "bootloader"} {
		delete(list, field)
	}
	c := list["containers"].([]any)[0].(object)
	c["verity"], c["user"] = true, "7:8"
	var first map[string]string
	for form, file := range map[string]string{"directory": "app", "tar": "app.tar", "cpio": "app.cpio", "squashfs": "app.squashfs", "oci": "oci"} {
		c["root"] = object{"form": form, "path": file}
		out, sums := compose(t, write(t, dir, list))
		if form == "oci" { // has more directories
			if _, again := compose(t, write(t, dir, list)); !cmp.Equal(sums, again) {
				t.Error(cmp.Diff(sums, again))
			}
		} else {
			part := verified(t, out)
			if first != nil && !cmp.Equal(first, part) {
				t.Errorf("%s: %s", form, cmp.Diff(first, part))
			}
			first = part
		}
		readByDevice(t, out)
		renewed(t, checkout(t, out))
	}
}

// verified verifies the hash tree of a revision's container and returns its manifest.
func verified(t *testing.T, out string) map[string]string {
	t.Helper()
	part := filepath.Join(checkout(t, out), "app")
	text, err := os.ReadFile(filepath.Join(part, "_dm/root.squashfs.json"))
	must(t, err)
	var m map[string]string
	must(t, json.Unmarshal(text, &m))
	data, hashes := filepath.Join(part, m["data_device"]), filepath.Join(part, m["hash_device"])
	verify := func() error { return exec.Command("veritysetup", "verify", data, hashes, m["root_hash"]).Run() }
	if err := verify(); err != nil || m["type"] != "dm-verity" {
		t.Errorf("%v: %v", m, err)
	}
	dump, err := exec.Command("veritysetup", "dump", hashes).CombinedOutput()
	if err != nil || !strings.Contains(string(dump), m["salt"]) || !strings.Contains(string(dump), m["uuid"]) {
		t.Errorf("salt or UUID of %v is not in %s: %v", m, dump, err)
	}
	f, err := os.OpenFile(data, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{0xff}, 100)
	must(t, err)
	if verify() == nil {
		t.Error("a changed root file system is verified")
	}
	return m
}

// readByDevice has the device's parser read a revision.
func readByDevice(t *testing.T, out string) {
	t.Helper()
	sys, err := manifest.Parse(revisionOf(t, out), manifest.Options{AppEngine: true})
	must(t, err)
	want := manifest.Artifact{Handler: "dm", File: "root.squashfs"}
	if len(sys.Containers) != 1 || sys.Containers[0].Root != want {
		t.Errorf("%+v", sys)
	}
}

// renewed has pvr make the hash tree again: nothing changes.
func renewed(t *testing.T, dir string) {
	t.Helper()
	files := []string{"app/_dm/root.squashfs.json", "app/root.squashfs.hash"}
	read := func() (out []string) {
		for _, name := range files {
			text, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			out = append(out, string(text))
		}
		return out
	}
	before := read()
	w := &app.Workspace{Dir: dir}
	if _, err := w.ApplyDM(t.Context(), files[:1], ""); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, read()); diff != "" {
		t.Error(diff)
	}
}

// TestVerityRejects has what no device could mount through a hash tree.
func TestVerityRejects(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	c := list["containers"].([]any)[0].(object)
	c["verity"], c["user"] = true, "7:8"
	put(t, dir, map[string]string{"config/pantavisor.config": "PV_SECUREBOOT_MODE=lenient\n"})
	l, err := Read(write(t, dir, list))
	must(t, err)
	_, err = l.Build(t.Context(), filepath.Join(t.TempDir(), "out"), Options{})
	if want := "containers[0].verity: the runtime has no handler for dm-verity"; fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), want) {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	list["config"].(object)["settings"] = []any{object{"key": "PV_SECUREBOOT_HANDLERS", "value": "0"}}
	compose(t, write(t, dir, list))
	writeForms(t, dir, appFiles())
	must(t, os.Truncate(filepath.Join(dir, "app.squashfs"), 4000))
	c["root"] = object{"form": "squashfs", "path": "app.squashfs"}
	l, err = Read(write(t, dir, list))
	must(t, err)
	_, err = l.Build(t.Context(), filepath.Join(t.TempDir(), "out"), Options{})
	if want := "a hash tree covers blocks of 4096 bytes, and it has 4000 bytes"; fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/canon"
)

type volume struct {
	Volume     string
	Size       int
	DataSHA256 string `json:"data_sha256"`
	Manifest   string
	HashFile   string `json:"hash_file"`
}

// content makes a volume by the recorded rule.
func (v volume) content(t testing.TB, n int) []byte {
	t.Helper()
	var b []byte
	for i := 0; len(b) < v.Size; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "dm-g-%d:%d", n, i))
		b = append(b, sum[:]...)
	}
	b = b[:v.Size]
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != v.DataSHA256 {
		t.Fatalf("the rule for %s gives another volume", v.Volume)
	}
	return b
}

// dmTree is a checkout with the recorded volumes below "os", and a "bsp".
func dmTree(t *testing.T) (*Workspace, *messages, []volume, string) {
	t.Helper()
	dir := recordings(t, "dm")
	var file struct{ Volumes []volume }
	readJSON(t, filepath.Join(dir, "volumes.json"), &file)
	if len(file.Volumes) == 0 {
		t.Fatal("no volumes")
	}
	w, log := workspace(t, nil)
	for n, v := range file.Volumes {
		put(t, w, "os/"+v.Volume, v.content(t, n))
	}
	put(t, w, "os/run.json", []byte(`{"#spec":"service-manifest-run@1","name":"os","root-volume":"vol0.squashfs","volumes":["vol1.squashfs","vol2.squashfs","vol3.squashfs","vol4.squashfs"]}`))
	put(t, w, "os/src.json", []byte(`{"#spec":"service-manifest-src@1","template":"builtin-lxc-docker","docker_name":"x"}`))
	put(t, w, "bsp/run.json", []byte(`{"modules": "modules.squashfs", "firmware": "firmware.squashfs", "linux": "kernel.img"}`))
	put(t, w, "bsp/modules.squashfs", make([]byte, 4096))
	put(t, w, "bsp/firmware.squashfs", make([]byte, 8192))
	return w, log, file.Volumes, dir
}

func put(t testing.TB, w *Workspace, key string, data []byte) {
	t.Helper()
	path := filepath.Join(w.Dir, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, w *Workspace, key string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.Dir, key))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRecordedHashTrees(t *testing.T) {
	t.Parallel()
	w, log, volumes, dir := dmTree(t)
	keys := []string{"os/run.json", "other/_dm/x.json"}
	var want []string
	for _, v := range volumes {
		key := "os/_dm/" + v.Volume + ".json"
		m, err := canon.First([]byte(v.Manifest))
		if err != nil {
			t.Fatal(err)
		}
		put(t, w, key, with(m, canon.Member{Name: "root_hash", Value: canon.Str("")}).Encode())
		keys = append(keys, key)
		want = append(want, "- Updated "+filepath.Join(w.Dir, key))
	}
	r, err := w.ApplyDM(context.Background(), keys, "os")
	if err != nil || len(r.Tracked) != 2*len(volumes) {
		t.Fatalf("%v, %v", r, err)
	}
	for _, v := range volumes {
		if d := cmp.Diff(v.Manifest, get(t, w, "os/_dm/"+v.Volume+".json")); d != "" {
			t.Errorf("%s: %s", v.Volume, d)
		}
		hashes, err := os.ReadFile(filepath.Join(dir, v.HashFile))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(hashes, []byte(get(t, w, "os/"+v.Volume+".hash"))) {
			t.Errorf("%s: the hash tree is another one", v.Volume)
		}
	}
	if d := cmp.Diff(want, log.take()); d != "" {
		t.Error(d)
	}
	before := treeOf(t, w.Dir)
	if _, err := w.ApplyDM(context.Background(), keys, "zzz"); err != nil || !slices.Equal(log.take(), []string{noMatch}) {
		t.Errorf("a prefix without match: %v", err)
	}
	if _, err := w.ApplyDM(context.Background(), keys[:1+len(volumes)], "os"); err != nil || cmp.Diff(before, treeOf(t, w.Dir)) != "" {
		t.Errorf("a second time changes something: %v", err)
	}
}

// noMatch is said of the prefix zzz.
const noMatch = "WARN: no mapping of a volume begins with zzz"

func TestRecordedConversions(t *testing.T) {
	t.Parallel()
	w, log, _, dir := dmTree(t)
	var file struct {
		Cases []struct {
			Name string
			Run  struct {
				Cmd    []string
				RC     int
				Stdout string
			}
			BSPRun string              `json:"bsp_run"`
			OSRun  string              `json:"os_run"`
			OSSrc  string              `json:"os_src"`
			Keys   map[string][]string `json:"manifest_keys"`
		}
	}
	readJSON(t, filepath.Join(dir, "convert.json"), &file)
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			before := treeOf(t, w.Dir)
			container, vol, err := SplitVolume(c.Run.Cmd[2:]...)
			if c.Run.Cmd[1] == "dm-apply" {
				_, err = w.ApplyDM(context.Background(), nil, c.Run.Cmd[2])
			} else if err == nil {
				_, err = w.ConvertDM(context.Background(), container, vol)
			}
			if c.Name == "apply-prefix-no-match" { // recorded without a word
				c.Run.Stdout = noMatch
			}
			said := strings.ReplaceAll(strings.Join(log.take(), "\n"), w.Dir, "@REPO@")
			if d := cmp.Diff(strings.TrimSpace(c.Run.Stdout), said); d != "" {
				t.Error(d)
			}
			if c.Run.RC != 0 {
				// The recorded failures leave empty files behind, these do not.
				if d := cmp.Diff(before, treeOf(t, w.Dir)); err == nil || d != "" {
					t.Errorf("error %v, changed:\n%s", err, d)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []string{get(t, w, "bsp/run.json"), get(t, w, "os/run.json"), get(t, w, "os/src.json")}
			if d := cmp.Diff([]string{c.BSPRun, c.OSRun, c.OSSrc}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestConvertedVolumeVerifies(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "veritysetup")
	w, _ := workspace(t, nil)
	put(t, w, "c/v", bytes.Repeat([]byte("0123456789abcdef"), 300*256))
	put(t, w, "c/run.json", []byte(`{"volumes":["v"]}`))
	if _, err := w.ConvertDM(context.Background(), "c", "v"); err != nil {
		t.Fatal(err)
	}
	var m struct {
		RootHash   string `json:"root_hash"`
		Salt, UUID string
	}
	if err := json.Unmarshal([]byte(get(t, w, "c/_dm/v.json")), &m); err != nil {
		t.Fatal(err)
	}
	verify := func() error {
		return exec.Command("veritysetup", "verify", filepath.Join(w.Dir, "c/v"), filepath.Join(w.Dir, "c/v.hash"), m.RootHash).Run()
	}
	if err := verify(); err != nil {
		t.Errorf("veritysetup verify: %v", err)
	}
	put(t, w, "c/v", bytes.Repeat([]byte("0123456789abcdeF"), 300*256))
	if verify() == nil {
		t.Error("a changed volume verifies")
	}
	if _, err := w.ConvertDM(context.Background(), "c", "v"); err != nil || strings.Contains(get(t, w, "c/_dm/v.json"), m.Salt) || strings.Contains(get(t, w, "c/_dm/v.json"), m.UUID) {
		t.Errorf("a second conversion keeps salt or UUID: %v", err)
	}
	info, err := os.Stat(filepath.Join(w.Dir, "c/v.hash"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the hash tree: %v, %v", info.Mode(), err)
	}
}

func TestConversionsRefused(t *testing.T) {
	t.Parallel()
	w, _ := workspace(t, nil)
	put(t, w, "c/v", make([]byte, 4096))
	put(t, w, "c/small", make([]byte, 4095))
	put(t, w, "c/run.json", []byte(`{"volumes":["small"]}`))
	put(t, w, "c/_dm/out.json", []byte(`{"type":"dm-verity","data_device":"../../x","hash_device":"y"}`))
	put(t, w, "c/_dm/salt.json", []byte(`{"type":"dm-verity","data_device":"v","hash_device":"y","salt":"zz"}`))
	put(t, w, "c/_dm/other.json", []byte(`{"type":"dm-crypt"}`))
	before := treeOf(t, w.Dir)
	for args, want := range map[[2]string]string{
		{"c", "v"}: "does not mount v", {"c", "small"}: "no whole block", {"c", "no"}: "opening the volume", {"no", "v"}: "no is not a directory",
		{"c", "../x"}: "volume could not be found", {"..", "v"}: "volume could not be found", {"c", ""}: "volume could not be found",
	} {
		if _, err := w.ConvertDM(context.Background(), args[0], args[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", args, err, want)
		}
	}
	for key, want := range map[string]string{"c/_dm/out.json": "names of files", "c/_dm/salt.json": "salt", "../c/_dm/out.json": "unusable key", "a/b/_dm/x.json": "is expected"} {
		if _, err := w.ApplyDM(context.Background(), []string{key}, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", key, err, want)
		}
	}
	if _, err := w.ApplyDM(context.Background(), []string{"c/_dm/other.json"}, ""); err != nil {
		t.Errorf("another kind of mapping: %v", err)
	}
	if d := cmp.Diff(before, treeOf(t, w.Dir)); d != "" {
		t.Errorf("changed:\n%s", d)
	}
}

func TestUpdateRenewsHashTrees(t *testing.T) {
	t.Parallel()
	w, _ := workspace(t, nil)
	from, ctx := t.TempDir(), context.Background()
	if err := os.WriteFile(filepath.Join(from, "f"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(ctx, "a", AddOptions{From: from, Kind: Rootfs}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ConvertDM(ctx, "a", rootName); err != nil {
		t.Fatal(err)
	}
	old := get(t, w, "a/_dm/root.squashfs.json")
	if err := os.WriteFile(filepath.Join(from, "f"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := w.Update(ctx, "a", UpdateOptions{})
	if err != nil || len(r.Tracked) != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	m := get(t, w, "a/_dm/root.squashfs.json")
	salt := func(m string) string { v, _ := canon.First([]byte(m)); return text(v, "salt") }
	if m == old || salt(m) != salt(old) || !strings.Contains(get(t, w, "a/run.json"), "dm:root.squashfs") {
		t.Errorf("manifest before and after:\n%s\n%s", old, m)
	}
}

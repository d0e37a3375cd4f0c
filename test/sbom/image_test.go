package sbom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	graph "github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/part"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

const target = "x64-uefi"

// build builds the target and returns its results, and the document with those that it refers to.
func build(t *testing.T) (dir string, image *sbom.Document, parts map[string]*sbom.Document) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	w := workspace.At(root, &options.Options{})
	w.OutDir, w.Stdout, w.Stderr = t.TempDir(), io.Discard, io.Discard
	if _, err := w.Build(t.Context(), target); fault.Of(err) == fault.Unreachable {
		t.Skipf("needs packages that are not available here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	dir = w.Out(target)
	text, err := os.ReadFile(filepath.Join(dir, "sbom.json"))
	if err != nil {
		t.Fatal(err)
	}
	if image, err = spdx2.Read(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	parts = map[string]*sbom.Document{}
	for _, r := range image.References {
		file := filepath.Join(dir, filepath.FromSlash(r.File))
		if got := digest(t, file); got != r.SHA256 {
			t.Errorf("%s has the digest %s, the document says %s", r.File, got, r.SHA256)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d, err := part.Decode(f)
		if err != nil {
			t.Fatal(err)
		}
		if d.Namespace != r.Namespace {
			t.Errorf("%s is %s, the document says %s", r.File, d.Namespace, r.Namespace)
		}
		parts[strings.TrimPrefix(r.ID, "DocumentRef-")] = d
	}
	return dir, image, parts
}

func digest(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), oracle.Program(t, name), args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%s: %v: %s", name, err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unpack takes the files out of the image's partitions, with the programs of others.
func unpack(t *testing.T, image string) string {
	t.Helper()
	var table struct {
		Table struct {
			Sector     int64 `json:"sectorsize"`
			Partitions []struct {
				Start, Size int64
				Name        string
			}
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(run(t, "sfdisk", "--json", image), &table); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	for i, p := range table.Table.Partitions {
		to := filepath.Join(out, p.Name)
		if err := os.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if i == len(table.Table.Partitions)-1 {
			run(t, "debugfs", "-R", "rdump / "+to, fmt.Sprintf("%s?offset=%d", image, p.Start*512))
			continue
		}
		run(t, "mcopy", "-s", "-n", "-i", fmt.Sprintf("%s@@%d", image, p.Start*512), "::", to)
	}
	return out
}

// TestImageIsCovered compares the documents of a real image with what other programs find in it: no
// file without a line, no package, no module and no licence that is missing.
func TestImageIsCovered(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an image")
	}
	dir, image, parts := build(t)
	for name, want := range map[string]bool{"bsp": true, "network": true, "sdk": true} {
		if (parts[name] != nil) != want {
			t.Fatalf("documents of %v", parts)
		}
	}
	all := &sbom.Document{}
	all.Add(image)
	for _, d := range parts {
		all.Add(d)
	}
	img, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil || len(img) != 1 {
		t.Fatalf("%v, %v", img, err)
	}
	listed := map[string]string{}
	for _, f := range all.Files {
		listed[f.SHA256] = f.Name
	}
	if sum, err := graph.SumFile(t.Context(), img[0]); err != nil || listed[sum] == "" {
		t.Errorf("the image with the digest %s is not listed, %v", sum, err)
	}
	orphans, files := 0, 0
	root := unpack(t, img[0])
	err = filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		// The objects of documents are documents, and so are not in any.
		if listed[digest(t, at)] == "" && !strings.HasSuffix(at, ".spdx.zst") && !isDocument(image, digest(t, at)) {
			orphans++
			t.Errorf("%s is in no document", strings.TrimPrefix(at, root))
		}
		return nil
	})
	if err != nil || files < 30 || orphans > 0 {
		t.Errorf("%d files, %d orphans, %v", files, orphans, err)
	}
	t.Run("packages", func(t *testing.T) { packages(t, all, dir) })
	t.Run("modules", func(t *testing.T) { modules(t, root, parts["bsp"]) })
	t.Run("programs", func(t *testing.T) { programs(t, all) })
}

func isDocument(image *sbom.Document, sum string) bool {
	return slices.ContainsFunc(image.References, func(r sbom.Reference) bool { return r.SHA256 == sum })
}

// packages compares the documents with the packages that the build used, and with what dpkg says of
// them.
func packages(t *testing.T, all *sbom.Document, dir string) {
	report, err := graph.LoadReport(filepath.Join(dir, graph.ReportName))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := debian.ParseLock([]byte(report.Recipe.Lock))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := graph.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	used := []string{"bootloader/amd64", "firmware/amd64", "kernel/amd64", "tools/" + debian.HostArch()}
	store := debian.Open(cache, func(text string) { t.Log(text) })
	found := map[string]sbom.Package{}
	for _, p := range all.Packages {
		found[p.SHA256] = p
	}
	for _, e := range lock.Packages {
		p, ok := found[e.SHA256]
		if !ok {
			// The lock has the compilers of kernels and the debug shell of other builds too.
			if slices.ContainsFunc(e.For, func(f string) bool { return slices.Contains(used, f) }) {
				t.Errorf("%s is in no document", e)
			}
			continue
		}
		file, err := store.Get(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		said := strings.Fields(string(run(t, "dpkg-deb", "-W", "--showformat", "${source:Package} ${source:Version} ${Version}", file)))
		if got := []string{p.SourceName, p.SourceVersion, p.Version}; !slices.Equal(got, said) {
			t.Errorf("%s: the document says %v, dpkg-deb %v", e, got, said)
		}
		if p.Declared == "" {
			t.Errorf("%s has no licence", e)
		}
	}
}

// modules compares the kernel's package with what unsquashfs lists.
func modules(t *testing.T, root string, bsp *sbom.Document) {
	var kernel sbom.Package
	for _, p := range bsp.Packages {
		if p.Purpose == sbom.OperatingSystem {
			kernel = p
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "trails/0/bsp/modules.squashfs"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	list := string(run(t, "unsquashfs", "-l", "-d", "", files[0]))
	n := 0
	for line := range strings.Lines(list) {
		_, name, ok := strings.Cut(strings.TrimSpace(line), "/kernel/")
		if !ok || !strings.Contains(name, ".ko") {
			continue
		}
		n++
		if _, ok := slices.BinarySearch(kernel.Paths, "kernel/"+name); !ok {
			t.Errorf("the kernel's package does not have kernel/%s", name)
		}
	}
	if n < 1000 || !slices.Contains(kernel.Paths, "kernel/fs/ext4/ext4.ko") {
		t.Errorf("%d modules", n)
	}
}

// programs compares the packages of our programs with what go version -m says.
func programs(t *testing.T, all *sbom.Document) {
	bin := filepath.Join(t.TempDir(), "pantavisor")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/pantavisor/pantavisor/cmd/pantavisor")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "version", "-m", bin).Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "dep" {
			continue
		}
		n++
		if !slices.ContainsFunc(all.Packages, func(p sbom.Package) bool { return p.Name == f[1] && p.Version == f[2] && p.Declared != "" }) {
			t.Errorf("no document has %s %s with a licence", f[1], f[2])
		}
	}
	if n == 0 {
		t.Errorf("go version -m says:\n%s", out)
	}
}

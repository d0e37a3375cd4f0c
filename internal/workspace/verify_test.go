package workspace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestMain makes the test binary a program that builds, as mage is: Verify starts itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "build" {
		os.Exit(int(fault.Of(buildHere(os.Args[2], strings.TrimPrefix(os.Args[3], "-out=")))))
	}
	os.Exit(m.Run())
}

func buildHere(target, out string) error {
	w, err := New()
	if err != nil {
		return err
	}
	w.OutDir = out
	_, err = w.Build(context.Background(), target)
	return err
}

// verified runs Verify and returns its result.
func verified(t *testing.T, w *Workspace, o VerifyOptions) (Verified, error) {
	t.Helper()
	var out bytes.Buffer
	w.JSON, w.Stdout = true, &out
	err := w.Verify(t.Context(), "plain", o)
	var v Verified
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
	}
	return v, err
}

// TestVerify builds a target, builds it again elsewhere, and then changes what was built.
func TestVerify(t *testing.T) {
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	root := t.TempDir()
	w := At(root, &options.Options{Epoch: build.Epoch, Release: "1.0"})
	var said bytes.Buffer
	w.Stdout, w.Stderr = &said, &said
	define(t, w, "plain", plain)
	if _, err := w.Build(t.Context(), "plain"); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	kept := t.TempDir()
	v, err := verified(t, w, VerifyOptions{Results: kept})
	if err != nil || !v.Same || len(v.Files) == 0 || len(v.Conditions) < 5 || len(v.Unstable)+len(v.Moved)+len(v.Recipe) > 0 {
		t.Fatalf("%+v, %v\n%s", v, err, said.String())
	}
	file := filepath.Join(w.Out("plain"), v.Files[0].Path)
	if sum, err := build.SumFile(t.Context(), filepath.Join(kept, "plain", v.Files[0].Path)); err != nil || sum != v.Files[0].SHA256 {
		t.Errorf("what was rebuilt is not kept: %v", err)
	}

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 4
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	v, err = verified(t, w, VerifyOptions{Image: file})
	if fault.Of(err) != fault.Different || v.Same || !strings.Contains(v.First, v.Files[0].Path) {
		t.Errorf("a flipped bit: %+v, %v", v, err)
	}

	record := filepath.Join(w.Out("plain"), build.ReportName)
	r, err := build.LoadReport(record)
	if err != nil || r.Recipe.Settings["PV_VERSION"] != "1.0" {
		t.Fatalf("%+v, %v", r.Recipe, err)
	}
	r.Recipe.Lock = strings.Repeat("packages: [", 3)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.json")
	if err := os.WriteFile(wrong, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := verified(t, w, VerifyOptions{Record: wrong}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "the lock in the record") {
		t.Errorf("a damaged lock: %v", err)
	}
	if _, err := verified(t, w, VerifyOptions{Image: filepath.Join(root, "none")}); fault.Of(err) != fault.Missing {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestStepsThatAreNotTheSame(t *testing.T) {
	t.Parallel()
	steps := func(texts ...string) *build.Report {
		r := &build.Report{}
		for _, text := range texts {
			f := strings.Fields(text)
			r.Steps = append(r.Steps, build.StepReport{Name: f[0], Key: f[1], Output: f[2]})
		}
		return r
	}
	for name, c := range map[string]struct {
		now             *build.Report
		unstable, moved []string
	}{
		"the same":           {steps("a 1 1", "b 2 2", "c 3 3"), nil, nil},
		"another output":     {steps("a 1 1", "b 2 9", "c 4 4"), []string{"b"}, nil},
		"other inputs":       {steps("a 9 9", "b 8 8", "c 3 3"), nil, []string{"a", "b"}},
		"a step that is new": {steps("a 1 1", "n 1 1"), nil, nil},
	} {
		var v Verified
		v.compareSteps(steps("a 1 1", "b 2 2", "c 3 3"), c.now)
		if d := cmp.Diff([][]string{c.unstable, c.moved}, [][]string{v.Unstable, v.Moved}); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

// TestResultsOfOneBuild: what only one of two builds has made is a difference.
func TestResultsOfOneBuild(t *testing.T) {
	t.Parallel()
	w := At(t.TempDir(), &options.Options{})
	report := func(names ...string) *build.Report {
		r := &build.Report{}
		for _, name := range names {
			r.Artefacts = append(r.Artefacts, build.Published{Path: name, Bytes: int64(len(name))})
		}
		return r
	}
	same, alone := w.pairs("plain", VerifyOptions{}, report("a.img", "gone.xz"), report("new", "a.img"))
	want := []inspect.Difference{{Kind: inspect.Removed, Path: []string{"gone.xz"}, OldBytes: 7}, {Kind: inspect.Added, Path: []string{"new"}, NewBytes: 3}}
	if d := cmp.Diff(want, alone, cmpopts.IgnoreUnexported(inspect.Difference{})); d != "" || len(same) != 1 || same[0].made.Path != "a.img" {
		t.Errorf("%+v\n%s", same, d)
	}
	v := Verified{Differences: alone}
	if v.judge(); v.Same || !strings.Contains(v.First, "gone.xz") {
		t.Errorf("same %v, first %q", v.Same, v.First)
	}
}

// TestFileIsComparedWithItsLike: the file of an image need not have the name that the build gives it.
func TestFileIsComparedWithItsLike(t *testing.T) {
	t.Parallel()
	var made []build.Published
	for _, name := range []string{"x.pvr.tgz", "x.img", "x.img.bmap", "x.img.xz", "x.img.xz-more.img"} {
		made = append(made, build.Published{Path: name})
	}
	for name, want := range map[string]string{
		"x.img": "x.img", "x.img.xz": "x.img.xz", "x.img.bmap": "x.img.bmap", "x.img.zst": "x.img", "x.img.xz.1": "x.img.xz",
		"other.img.gz": "x.img", "other.bmap": "x.img.bmap", "x.img.old.bmap": "x.img.bmap", "other.tgz": "x.pvr.tgz", "other": "",
	} {
		got := ""
		if i := fitting(name, made); i >= 0 {
			got = made[i].Path
		}
		if got != want {
			t.Errorf("%s is compared with %q, want %q", name, got, want)
		}
	}
}

// TestSignaturesDoNotCount: the rebuilt file has none, and all that follows from one differs.
func TestSignaturesDoNotCount(t *testing.T) {
	t.Parallel()
	signature := inspect.Difference{Kind: inspect.Removed, Path: []string{"x.img", "partition 2", "trails/0/_sigs/bsp.json"}}
	follows := inspect.Difference{Kind: inspect.Changed, Path: []string{"x.img", "partition 2"}, Derived: true}
	other := inspect.Difference{Kind: inspect.Changed, Path: []string{"x.img", "partition 2", "trails/0/bsp/run.json"}}
	removed := func(path ...string) inspect.Difference { return inspect.Difference{Kind: inspect.Removed, Path: path} }
	document := func(keys ...string) inspect.Difference {
		d := inspect.Difference{Kind: inspect.Changed, Path: []string{"x.img", "partition 2", "trails/0/.pvr/json"}, Derived: true}
		for _, k := range keys {
			d.Details = append(d.Details, inspect.Detail{Change: inspect.Change{Name: k}})
		}
		return d
	}
	for _, c := range []struct {
		have []inspect.Difference
		same bool
	}{
		{nil, true},
		{[]inspect.Difference{signature, follows}, true},
		{[]inspect.Difference{follows}, false},
		{[]inspect.Difference{signature, follows, other}, false},
		{[]inspect.Difference{{Kind: inspect.Added, Path: signature.Path}}, false},
		{[]inspect.Difference{{Kind: inspect.Changed, Path: signature.Path}, follows}, false},
		{[]inspect.Difference{signature, removed("x.img", "partition 2", "trails/0/_sigs"), follows}, true},
		{[]inspect.Difference{removed("x.img", "partition 2", "trails/0/_sigs"), follows}, false},
		{[]inspect.Difference{removed("x.pvr.tgz", "_sigs/bsp.json")}, true},
		{[]inspect.Difference{removed("x.img", "partition 2", "_sigs/bsp.json")}, false},
		{[]inspect.Difference{signature, removed("x.img", "partition 2", "trails/0/web/root.squashfs", "trails/0/_sigs/program.json"), follows}, false},
		{[]inspect.Difference{signature, removed("x.img", "partition 2", "home/trails/0/_sigs/x.json"), follows}, false},
		{[]inspect.Difference{signature, document("_sigs/bsp.json.signature"), follows}, true},
		{[]inspect.Difference{signature, document("_sigs/bsp.json.signature", "web/run.json.roles[0]"), follows}, false},
		{[]inspect.Difference{signature, document(), follows}, false},
	} {
		v := Verified{Differences: c.have}
		if v.judge(); v.Same != c.same || v.Same == (v.First != "") {
			t.Errorf("%v: same %v, first %q", c.have, v.Same, v.First)
		}
	}
}

func TestRecipeEnvironment(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(key, []byte("key"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := &options.Options{
		Debug: true, Epoch: 1600000000, Release: "2.1", Key: key, FactoryToken: "secret", Pipeline: options.Pipeline{Branch: "main", ID: "7"},
		Parts: map[string]string{"PV_PART_BL1": key, "PV_PART_BL1_SHA256": "ab"},
	}
	w := At(dir, o)
	cache, err := build.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	settings, secrets, files := o.Variables()
	names := slices.Concat(slices.Collect(maps.Keys(settings)), slices.Collect(maps.Keys(secrets)), slices.Collect(maps.Keys(files)))
	for _, name := range names {
		if !options.IsVariable(name) {
			t.Errorf("%s is not a variable", name)
		}
	}
	if len(secrets) == 0 || len(files) == 0 {
		t.Error("there are no secrets and files")
	}
	r, err := w.recipe(&job{lock: &debian.Lock{}, Builder: &build.Builder{Cache: cache}})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(r); strings.Contains(text, "secret") {
		t.Errorf("the record has a secret: %s", text)
	}
	if _, err := environment(t.Context(), r); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "PV_FACTORY_AUTOTOK") {
		t.Errorf("without the secret: %v", err)
	}
	t.Setenv("PV_FACTORY_AUTOTOK", "secret")
	got, err := environment(t.Context(), r)
	want := []string{
		"CI_COMMIT_REF_NAME=main", "CI_PIPELINE_ID=7", "PANTAVISOR_DEBUG=yes", "PV_PART_BL1_SHA256=ab", "PV_VERSION=2.1", "SOURCE_DATE_EPOCH=1600000000",
		"PV_PART_BL1=" + key, "PV_PVS_PUB_PEM=" + key, "PV_FACTORY_AUTOTOK=secret",
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if err := os.WriteFile(key, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := environment(t.Context(), r); fault.Of(err) != fault.Digest {
		t.Errorf("another key: %v", err)
	}
}

// TestRecordsSetNothingElse: a record comes with the image of somebody else, and variables can make
// the tool chain run any program.
func TestRecordsSetNothingElse(t *testing.T) {
	t.Parallel()
	for _, r := range []*build.Recipe{
		{Settings: map[string]string{"GOFLAGS": "-toolexec=/tmp/program"}},
		{Settings: map[string]string{"PATH": "/tmp"}},
		{Settings: map[string]string{"PV_VERSION=1\nLD_PRELOAD": "/tmp/library.so"}},
		{Settings: map[string]string{"PV_VERSION": "1\x00"}},
		{Files: map[string]build.RecipeFile{"LD_PRELOAD": {Path: "/dev/null"}}},
		{Secrets: map[string]string{"HOME": "ab"}},
	} {
		if env, err := environment(t.Context(), r); fault.Of(err) != fault.BadInput || env != nil {
			t.Errorf("%+v: %v, %v", r, env, err)
		}
	}
}

// TestRecordsNameNoFiles: without a digest a record cannot have the files of this machine built into
// an image, of which the differences are shown.
func TestRecordsNameNoFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &build.Recipe{Files: map[string]build.RecipeFile{"PV_PVS_PUB_PEM": {Path: secret}}}
	if env, err := environment(t.Context(), r); fault.Of(err) != fault.Missing {
		t.Errorf("a file without a digest: %v, %v", env, err)
	}
	directory := &build.Recipe{Files: map[string]build.RecipeFile{"PV_PVS_PUB_PEM": {Path: filepath.Dir(secret), SHA256: strings.Repeat("a", 64)}}}
	if env, err := environment(t.Context(), directory); fault.Of(err) != fault.BadInput {
		t.Errorf("a directory with the digest of a file: %v, %v", env, err)
	}
	t.Setenv("PV_PVS_PUB_PEM", filepath.Dir(secret))
	if env, err := environment(t.Context(), r); err != nil || len(env) != 1 {
		t.Errorf("a directory that the user has named: %v, %v", env, err)
	}
}

// TestRecipeIsMadeForBuilds: what only looks at the graph digests no files of settings.
func TestRecipeIsMadeForBuilds(t *testing.T) {
	w, _ := empty(t)
	define(t, w, "plain", plain)
	j, err := w.open(t.Context(), "plain")
	if err != nil {
		t.Fatal(err)
	}
	if j.Recipe != nil {
		t.Errorf("a plan has the recipe %+v", j.Recipe)
	}
	if err := j.close(); err != nil {
		t.Error(err)
	}
}

// TestPackagesOfARebuild: those of the cache are there for the rebuild, one that the lock has for
// two suites too, and those of the archive are left to it.
func TestPackagesOfARebuild(t *testing.T) {
	w, _ := empty(t)
	cache, err := build.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	here, sum := debian.Open(cache, nil).Dir, strings.Repeat("a", 64)
	if err := errors.Join(os.MkdirAll(here, 0o755), os.WriteFile(filepath.Join(here, sum+".deb"), []byte("deb"), 0o644)); err != nil {
		t.Fatal(err)
	}
	r := &rebuild{Workspace: w, dir: t.TempDir()}
	lock := &debian.Lock{Packages: []debian.Entry{{SHA256: sum, Size: 3}, {SHA256: strings.Repeat("b", 64), Size: 3}, {SHA256: sum, Size: 3}}}
	if err := r.packages(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	there, err := os.ReadDir(debian.Open(r.at(rebuiltCache), nil).Dir)
	if err != nil || len(there) != 1 || there[0].Name() != sum+".deb" {
		t.Errorf("%v, %v", there, err)
	}
}

func TestDifferingRecipes(t *testing.T) {
	t.Parallel()
	lock := func(version, sum string) string {
		l := &debian.Lock{
			Requests: []debian.Request{{Name: "kernel", Suite: "bookworm", Arch: "amd64", Packages: []string{"busybox-static"}}},
			Packages: []debian.Entry{{
				Package: "busybox-static", Version: version, Arch: "amd64", Suite: "bookworm", Path: "pool/main/b/busybox/x.deb",
				SHA256: strings.Repeat(sum, 64), Size: 1, For: []string{"kernel/amd64"},
			}},
		}
		text, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	a := &build.Recipe{Go: "go1.26.1", Lock: lock("1", "a"), Settings: map[string]string{"PV_VERSION": "1"}}
	b := &build.Recipe{Go: "go1.26.2", Lock: lock("1", "b"), Settings: map[string]string{"PANTAVISOR_DEBUG": "yes"}}
	want := []string{
		"Go go1.26.1 → go1.26.2", `PV_VERSION "1" → ""`, `PANTAVISOR_DEBUG → "yes"`,
		"busybox-static=1:amd64 with the digest bbbbbbbbbbbb instead of aaaaaaaaaaaa",
	}
	if d := cmp.Diff(want, differingRecipes(a, b)); d != "" {
		t.Error(d)
	}
	b.Lock = lock("2", "b")
	if got := differingRecipes(a, b); got[len(got)-1] != "busybox-static:amd64 1 -> 2" {
		t.Errorf("%q", got)
	}
	if differingRecipes(a, a) != nil || differingRecipes(nil, a) != nil {
		t.Error("equal recipes differ")
	}
}

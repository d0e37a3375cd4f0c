package images

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// options are those of a target of this repository, without any download.
func options(t *testing.T, name string) Options {
	t.Helper()
	target, err := targets.Load(targets.Builtin(), name)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := debian.LoadLock(filepath.Join("../targets", name, "parts.lock"))
	if err != nil {
		t.Fatal(err)
	}
	return Options{Target: target, Root: "..", Parts: debian.NewParts(debian.Open(t.TempDir(), nil), lock)}
}

func artefacts(t *testing.T, o Options) []string {
	t.Helper()
	c, err := Graph(o)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range c.Artefacts {
		out = append(out, a.To)
	}
	return out
}

// reachable are the names of all steps below some.
func reachable(steps []build.Step) map[string]bool {
	out := map[string]bool{}
	for _, s := range steps {
		out[s.Name()] = true
		maps.Copy(out, reachable(s.Deps()))
	}
	return out
}

func TestTargetWithAnImageHasEveryComponent(t *testing.T) {
	c, err := Graph(options(t, "x64-uefi"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(Components)), slices.Sorted(maps.Keys(c.Components))); diff != "" {
		t.Error(diff)
	}
	want := []string{"x64-uefi.pvr.tgz", "x64-uefi-pv-4096MiB.img", "x64-uefi-pv-4096MiB.img.bmap"}
	if diff := cmp.Diff(want, artefacts(t, options(t, "x64-uefi"))); diff != "" {
		t.Error(diff)
	}
	if all := reachable(c.Wanted()); all["initrd/addon-debug"] || !all["container/sdk/amd64"] {
		t.Errorf("steps %v", slices.Sorted(maps.Keys(all)))
	}
}

func TestGenericTargetHasABSPOnly(t *testing.T) {
	if diff := cmp.Diff([]string{"x64-generic.pvr.tgz"}, artefacts(t, options(t, "x64-generic"))); diff != "" {
		t.Error(diff)
	}
}

func TestOptionsChangeTheGraph(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(*Options)
		has    string
		hasNot string
	}{
		"debug":  {func(o *Options) { o.Debug = true }, "initrd/addon-debug", "trail/reference"},
		"merge":  {func(o *Options) { o.MergeSource = "x/.pvr" }, "trail/reference", "container/sdk/amd64"},
		"no BSP": {func(o *Options) { o.MergeSource, o.UseSourceBSP = "x.tgz", true }, "trail/reference", "bsp/part"},
	} {
		o := options(t, "x64-uefi")
		c.set(&o)
		g, err := Graph(o)
		if err != nil {
			t.Fatal(err)
		}
		all := reachable(g.Wanted())
		if !all[c.has] || all[c.hasNot] {
			t.Errorf("%s: steps %v", name, slices.Sorted(maps.Keys(all)))
		}
	}
}

func TestOptionsThatDoNotFitAreRefused(t *testing.T) {
	private, text := filepath.Join(t.TempDir(), "key.pem"), filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(private, []byte("-----BEGIN EC PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, set := range map[string]func(*Options){
		"PVR_MERGE_SRC":        func(o *Options) { o.UseSourceBSP = true },
		"private key":          func(o *Options) { o.TrustKey = private },
		"no PEM block":         func(o *Options) { o.TrustCertificates = text },
		"PV_PVS_CERT_PEM":      func(o *Options) { o.TrustCertificates = filepath.Join(t.TempDir(), "none") },
		"\"u-boot\" is not su": func(o *Options) { o.Target.Bootloader.Type = "u-boot" },
	} {
		o := options(t, "x64-uefi")
		set(&o)
		_, err := Graph(o)
		if k := fault.Of(err); (k != fault.BadInput && k != fault.Missing && k != fault.Unsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: kind %v: %v", want, k, err)
		}
	}
}

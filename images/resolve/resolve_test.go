package resolve

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// shipped returns a target of this repository with its options, without any download.
func shipped(t *testing.T, name string) (*targets.Target, Options) {
	t.Helper()
	target, err := targets.Load(targets.Builtin(), name)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := debian.LoadLock(filepath.Join("../../targets", name, "parts.lock"))
	if err != nil {
		t.Fatal(err)
	}
	module, err := gosource.Open("../..")
	if err != nil {
		t.Fatal(err)
	}
	return target, Options{Layers: repository(), Module: module, Own: module, Parts: debian.NewParts(debian.Open(t.TempDir(), nil), lock)}
}

func artefacts(t *testing.T, name string) []string {
	t.Helper()
	c, err := composition(shipped(t, name))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range c.Artefacts {
		out = append(out, a.To)
	}
	return out
}

// reachable returns the names of the steps and of all their dependencies.
func reachable(steps []build.Step) map[string]bool {
	out := map[string]bool{}
	for _, s := range steps {
		out[s.Name()] = true
		maps.Copy(out, reachable(s.Deps()))
	}
	return out
}

func TestTargetWithAnImageHasEveryComponent(t *testing.T) {
	c, err := composition(shipped(t, "x64-uefi"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(images.Components)), slices.Sorted(maps.Keys(c.Components))); diff != "" {
		t.Error(diff)
	}
	want := []string{"x64-uefi.pvr.tgz", "x64-uefi-pv-4096MiB.img", "x64-uefi-pv-4096MiB.img.bmap", "sbom.json", "sbom"}
	if diff := cmp.Diff(want, artefacts(t, "x64-uefi")); diff != "" {
		t.Error(diff)
	}
	for o, want := range map[images.Output]string{images.OutputExport: want[0], images.OutputImage: want[1]} {
		if made := c.Outputs[o]; len(made) == 0 || made[0].To != want {
			t.Errorf("output %s is %v, want %s first", o, made, want)
		}
	}
	if all := reachable(c.Wanted()); all["initrd/addon-debug"] || !all["container/sdk/amd64"] {
		t.Errorf("steps %v", slices.Sorted(maps.Keys(all)))
	}
}

func TestGenericTargetHasABSPOnly(t *testing.T) {
	if diff := cmp.Diff([]string{"x64-generic.pvr.tgz", "sbom.json", "sbom"}, artefacts(t, "x64-generic")); diff != "" {
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
		target, o := shipped(t, "x64-uefi")
		c.set(&o)
		g, err := composition(target, o)
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
	for want, set := range map[string]func(*targets.Target, *Options){
		"PVR_MERGE_SRC":             func(_ *targets.Target, o *Options) { o.UseSourceBSP = true },
		"private key":               func(_ *targets.Target, o *Options) { o.TrustKey = private },
		"no PEM block":              func(_ *targets.Target, o *Options) { o.TrustCertificates = text },
		"PV_PVS_CERT_PEM":           func(_ *targets.Target, o *Options) { o.TrustCertificates = filepath.Join(t.TempDir(), "none") },
		"\"uboot-pvk\" is not supp": func(t *targets.Target, _ *Options) { t.Bootloader.Type = "uboot-pvk" },
		"kernel.source: \"nobody\"": func(t *targets.Target, _ *Options) { t.Kernel.Source = "nobody" },
		"has the role root":         func(t *targets.Target, _ *Options) { t.Images[0].Partitions = t.Images[0].Partitions[:1] },
	} {
		target, o := shipped(t, "x64-uefi")
		set(target, &o)
		_, err := composition(target, o)
		if k := fault.Of(err); (k != fault.BadInput && k != fault.Missing && k != fault.Unsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: kind %v: %v", want, k, err)
		}
	}
}

// TestTimeStampReachesEveryStep checks each step of a target that has a stamp.
func TestTimeStampReachesEveryStep(t *testing.T) {
	target, o := shipped(t, "x64-uefi")
	o.Debug, o.Epoch = true, 1700000000
	c, err := composition(target, o)
	if err != nil {
		t.Fatal(err)
	}
	stamped := map[string]bool{}
	eachStep(c.Wanted(), func(s build.Step) {
		f := reflect.ValueOf(s).Elem().FieldByName("Epoch")
		if !f.IsValid() {
			return
		}
		stamped[s.Name()] = true
		if f.Interface() != o.Epoch {
			t.Errorf("%s has the stamp %v", s.Name(), f.Interface())
		}
	})
	for _, name := range []string{
		"initrd/files", "initrd/modules", "initrd/runtime", "initrd/addon-debug", "kernel/modules", "kernel/firmware",
		"bsp/part", "bsp/export", "container/sdk/amd64", "image/disk",
	} {
		if !stamped[name] {
			t.Errorf("%s has no stamp", name)
		}
	}
}

func eachStep(steps []build.Step, do func(build.Step)) {
	for _, s := range steps {
		do(s)
		eachStep(s.Deps(), do)
	}
}

func TestAppEngineTargetsMakeAPackage(t *testing.T) {
	for _, name := range []string{"x64-appengine", "aarch64-appengine", "arm-appengine", "mips-appengine"} {
		if diff := cmp.Diff([]string{name + ".tgz", "sbom.json", "sbom"}, artefacts(t, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// composition resolves a target and composes it.
func composition(t *targets.Target, o Options) (*images.Composition, error) {
	in, err := Target(t, o)
	if err != nil {
		return nil, err
	}
	return images.Compose(in)
}

package resolve

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// TestFormsOfAnImage: further forms follow the image, which stays the main artefact and is
// the same step with and without them.
func TestFormsOfAnImage(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "x64-uefi")
	plain, err := composition(target, o)
	if err != nil {
		t.Fatal(err)
	}
	target.Images[0].Compress, target.Images[0].Forms = "xz", []string{"qcow2"}
	c, err := composition(target, o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range c.Outputs[images.OutputImage] {
		got = append(got, a.To)
	}
	const name = "x64-uefi-pv-4096MiB"
	if diff := cmp.Diff([]string{name + ".img", name + ".img.bmap", name + ".img.xz", name + ".qcow2"}, got); diff != "" {
		t.Error(diff)
	}
	layout := func(c *images.Composition) images.Layout {
		return c.Outputs[images.OutputImage][0].Step.(*images.Disk).Layout
	}
	if diff := cmp.Diff(layout(plain), layout(c)); diff != "" {
		t.Errorf("the image is another one:\n%s", diff)
	}
}

// TestInstallerHasTheTargetsImage: an installation medium is its one artefact, and what it
// installs is the very image of the target.
func TestInstallerHasTheTargetsImage(t *testing.T) {
	t.Parallel()
	_, o := shipped(t, "x64-uefi")
	installer, err := targets.Load(targets.Builtin(), "x64-uefi-installer-sdo")
	if err != nil {
		t.Fatal(err)
	}
	in, err := Target(installer, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := images.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range c.Artefacts {
		got = append(got, a.To)
	}
	const name = "x64-uefi-installer-sdo-pv-512MiB.img"
	if diff := cmp.Diff([]string{name, name + ".bmap", "sbom.json", "sbom"}, got); diff != "" {
		t.Error(diff)
	}
	medium := c.Artefacts[0].Step.(*images.InstallerMedium)
	target, _ := shipped(t, "x64-uefi")
	whole, err := composition(target, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole.Outputs[images.OutputImage][0].Step.(*images.Disk).Target, medium.Disk.(*images.Disk).Target); diff != "" {
		t.Errorf("the image is another one:\n%s", diff)
	}
	if medium.Image != "x64-uefi-pv-4096MiB.img" || !slices.Contains(installerArguments(installer.Installer), "pv_install_ask=no") {
		t.Errorf("it has %s and is started with %v", medium.Image, installerArguments(installer.Installer))
	}
}

// TestInstallersThatCannotBe: a loader that only starts revisions, and a BSP that is not
// built here.
func TestInstallersThatCannotBe(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "qemu-aarch64")
	target.Installer = &targets.Installer{Size: 512, Wait: 15}
	if _, err := composition(target, o); fault.Of(err) != fault.Unsupported {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	target, o = shipped(t, "x64-uefi")
	target.Installer, o.MergeSource, o.UseSourceBSP = &targets.Installer{Size: 512}, "device/.pvr", true
	if _, err := composition(target, o); fault.Of(err) != fault.BadInput {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

// TestStorageForAVendorsTool: a target without a medium, whose loader is somebody else's.
func TestStorageForAVendorsTool(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "qemu-aarch64")
	target.Images, target.Emulators, target.Rootfs = nil, nil, true
	target.Bootloader = &targets.Bootloader{Type: "extlinux"}
	c, err := composition(target, o)
	if err != nil {
		t.Fatal(err)
	}
	made := c.Outputs[images.OutputRootfs]
	if len(made) != 1 || made[0].To != "qemu-aarch64.rootfs.tar.xz" || !reachable(c.Wanted())["extlinux/state"] || len(c.Outputs[images.OutputExport]) != 1 {
		t.Errorf("it makes %v", c.Artefacts)
	}
	o.Debug = true
	if _, err := composition(target, o); fault.Of(err) != fault.Unsupported {
		t.Errorf("with an addon: kind %v: %v", fault.Of(err), err)
	}
	o.Debug, target.Kernel.Arguments = false, []string{"pv_rev=1"}
	if _, err := composition(target, o); fault.Of(err) != fault.BadInput {
		t.Errorf("with an argument of the handshake: kind %v: %v", fault.Of(err), err)
	}
}

// TestBundleOfATarget: a module whose blob is optional and not given is left out.
func TestBundleOfATarget(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "x64-uefi")
	sector := int64(2)
	target.Parts = map[string]targets.Part{"imx": {What: "U-Boot", Optional: true}}
	target.Tezi = &targets.Tezi{Modules: []targets.TeziModule{
		{Name: "one", Products: []string{"0014"}, Blobs: []targets.Blob{{Name: "spl", File: "usr/lib/grub/x86_64-efi/fat.mod", Sector: &sector}}},
		{Name: "two", Products: []string{"0036"}, Flash: "nand", Blobs: []targets.Blob{{Name: "u-boot", Part: "imx", Partition: "u-boot1"}}},
	}}
	in, err := Target(target, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Tezi.Modules) != 1 || in.Tezi.Modules[0].Blobs[0].Sector != 2 || !slices.Contains(in.Outputs, images.OutputTezi) {
		t.Errorf("%+v", in.Tezi)
	}
	target.Parts["imx"] = targets.Part{What: "U-Boot"}
	if in, err = Target(target, o); err != nil || in.Tezi != nil || slices.Contains(in.Outputs, images.OutputTezi) {
		t.Errorf("without a required part: %+v, %v", in.Tezi, err)
	}
}

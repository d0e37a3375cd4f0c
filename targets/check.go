package targets

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// debianArchs are Debian's names for each GOARCH.
var debianArchs = map[string][]string{
	"amd64": {"amd64"}, "arm64": {"arm64"}, "arm": {"armhf", "armel"}, "mipsle": {"mipsel"}, "riscv64": {"riscv64"},
}

var (
	treeForm      = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._,+-]*/)?[A-Za-z0-9][A-Za-z0-9._,+-]*\.dtb$`)
	overlayForm   = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._,+-]*/)*[A-Za-z0-9][A-Za-z0-9._,+-]*\.dtbo$`)
	moduleForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_+-]*$`)
	packageForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	labelForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	fileForm      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	fragmentForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	defconfigForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*config$`)
	machineForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.,=+-]*$`)
)

// checker reports the mistakes in a target.
type checker struct{ *yamlfile.File }

// check reports mistakes that single fields cannot show.
func (r checker) check(t *Target) {
	if strings.TrimSpace(t.Description) == "" {
		r.Wrong("description", "is empty: say in one line what the target is")
	}
	if t.Platform != "" {
		r.Form("platform", t.Platform, nameForm)
	}
	if t.Base != "" {
		r.Form("base", t.Base, nameForm)
	}
	r.arch(t.Arch)
	if t.Kernel != nil {
		r.kernel(t.Kernel, t.Arch)
		r.fit(t)
	}
	if t.Bootloader != nil {
		r.bootloader(t)
	}
	if t.Images != nil {
		r.images(t)
	}
	if t.Emulators != nil {
		r.emulators(t)
	}
	if t.AppEngine != nil {
		r.appEngine(t)
	}
	r.List("containers", t.Containers, nameForm)
	r.parts(t)
	r.builds(t)
	r.installer(t)
	r.rootfs(t)
	r.tezi(t)
	r.List("aliases", t.Aliases, nameForm)
	CheckSupport(r.File, "support", t.Support)
	r.addons(t)
	if t.Budgets != nil && !t.Budgets.inherited {
		r.budgets(t)
	}
}

// maxAddons is how many addons boot loaders look for, less one for that of debug images.
const maxAddons = 31

func (r checker) addons(t *Target) {
	if len(t.Addons) > maxAddons {
		r.Wrong("addons", "has %d; boot loaders load %d", len(t.Addons), maxAddons)
	}
	if len(t.Addons) > 0 && t.Kernel == nil {
		r.Wrong("addons", "have no initrd to go with: the target has no kernel")
	}
	r.initrds(t)
	for i, a := range t.Addons {
		at := fmt.Sprintf("addons[%d]", i)
		r.Form(at+".name", a.Name, nameForm)
		if a.Name == "debug" {
			r.Wrong(at+".name", "\"debug\" is that of debug images (PANTAVISOR_DEBUG)")
		}
		if slices.IndexFunc(t.Addons, func(o Addon) bool { return o.Name == a.Name }) < i {
			r.Wrong(at+".name", "%q is there twice", a.Name)
		}
		if (a.Directory == "") == (a.Program == "") {
			r.Wrong(at, "want one of directory and program")
		}
		if a.Path != "" && a.Program == "" {
			r.Wrong(at+".path", "is only for a program")
		}
		for field, p := range map[string]string{".directory": a.Directory, ".program": a.Program, ".path": a.Path} {
			if p != "" && (!fs.ValidPath(p) || p == ".") {
				r.Wrong(at+field, "%q is not a clean path without a leading '/'", p)
			}
		}
	}
}

// initrds checks that the boot loader can load what there is besides the base initrd.
func (r checker) initrds(t *Target) {
	if t.Bootloader == nil {
		return
	}
	if v, _ := lookup(values["bootloader.type"], t.Bootloader.Type); !v.loader.oneInitrd {
		return
	}
	if len(t.Addons) > 0 {
		r.Wrong("addons", "bootloader.type: %s loads one initrd and no addons: put their files into vendors/%s/skel, or take another loader", t.Bootloader.Type, cmp.Or(t.Platform, t.Name))
	}
	if t.Debug {
		r.Wrong("debug", "bootloader.type: %s loads one initrd and no addons, and the debug shell is one: take another loader", t.Bootloader.Type)
	}
}

func (r checker) arch(a Arch) {
	switch {
	case a.Go == "":
		r.Wrong("", "field arch is missing")
	case a.Go == "arm":
		r.Need("arch.arm", a.ARM, "arm needs 5, 6 or 7")
	case a.ARM != "":
		r.Wrong("arch.arm", "is only for go: arm")
	}
	mips := a.Go == "mips" || a.Go == "mipsle"
	switch {
	case mips:
		r.Need("arch.mips", a.MIPS, a.Go+" needs softfloat or hardfloat")
	case a.MIPS != "":
		r.Wrong("arch.mips", "is only for go: mips and mipsle")
	}
	if a.Debian != "" && !slices.Contains(debianArchs[a.Go], a.Debian) {
		r.Wrong("arch.debian", "%s does not run on go: %s", a.Debian, a.Go)
	}
	if a.Debian == "armhf" && a.ARM != "7" {
		r.Wrong("arch.debian", "armhf needs arm: 7")
	}
}

func (r checker) kernel(k *Kernel, a Arch) {
	r.kernelSource(k, a)
	if k.Package != "" {
		r.Form("kernel.package", k.Package, packageForm)
	}
	if k.Suite != "" {
		r.Form("kernel.suite", k.Suite, nameForm)
	}
	r.List("kernel.device_trees", k.DeviceTrees, treeForm)
	r.List("kernel.overlays", k.Overlays, overlayForm)
	if len(k.Overlays) > 0 && len(k.DeviceTrees) == 0 {
		r.Wrong("kernel.overlays", "have no device tree to be applied to: device_trees is empty")
	}
	r.List("kernel.early_modules", k.EarlyModules, moduleForm)
	for i, arg := range k.Arguments {
		if arg == "" || strings.ContainsAny(arg, " \t\"") {
			r.Wrong(fmt.Sprintf("kernel.arguments[%d]", i), "%q: want one argument without blanks and quotes", arg)
		}
	}
	if k.Firmware != nil {
		r.firmware(k.Firmware)
	}
}

// kernelSource checks the fields that say where the kernel comes from: each source has its own.
func (r checker) kernelSource(k *Kernel, a Arch) {
	switch k.Source {
	case "debian":
		r.Need("kernel.suite", k.Suite, "name the Debian suite, for example bookworm")
		r.Need("kernel.package", k.Package, "name the kernel's package, for example linux-image-amd64")
		r.Need("arch.debian", a.Debian, "a kernel from Debian needs Debian's name of the architecture")
	case "debian-source":
		r.Need("kernel.suite", k.Suite, "name the Debian suite whose source is compiled, for example bookworm")
	case "files":
		r.Need("kernel.part", k.Part, "name the part of the target that is the kernel's tarball")
	case "buildroot":
		r.Need("kernel.dir", k.Dir, "name the output directory of Buildroot, that with images/")
	case "yocto":
		r.Need("kernel.dir", k.Dir, "name the deploy directory of the build, tmp/deploy/images/MACHINE")
		r.Need("kernel.image", k.Image, "name the recipe of an image that was built for the machine: its testdata.json says what files are called")
		r.Need("kernel.machine", k.Machine, "name the MACHINE of the build")
	case "tree":
		if (k.Part == "") == (k.Dir == "") {
			r.Wrong("kernel", "want one of dir, a directory with the kernel's source, and part, a tarball with it")
		}
	}
	r.kernelFields(k)
	if k.Firmware != nil {
		r.Need("kernel.suite", k.Suite, "name the Debian suite of the firmware's packages")
		r.Need("arch.debian", a.Debian, "firmware from Debian needs Debian's name of the architecture")
	}
	r.List("kernel.fragments", k.Fragments, fragmentForm)
	r.List("kernel.patches", k.Patches, fileForm)
	if k.Defconfig != "" {
		r.Form("kernel.defconfig", k.Defconfig, defconfigForm)
	}
	if k.Dir != "" && !filepath.IsAbs(k.Dir) && (!fs.ValidPath(k.Dir) || k.Dir == ".") {
		r.Wrong("kernel.dir", "%q is neither absolute nor a clean path below the repository", k.Dir)
	}
}

// kernelFields checks that a kernel has no field of another source.
func (r checker) kernelFields(k *Kernel) {
	set := map[string]bool{
		"suite": k.Suite != "", "package": k.Package != "", "part": k.Part != "", "dir": k.Dir != "", "image": k.Image != "", "machine": k.Machine != "", "firmware": k.Firmware != nil,
		"defconfig": k.Defconfig != "", "fragments": k.Fragments != nil, "patches": k.Patches != nil,
	}
	for field, of := range map[string][]string{
		"suite": {"debian", "debian-source", "tree", "buildroot", "yocto"}, "package": {"debian"}, "part": {"files", "tree"}, "dir": {"tree", "buildroot", "yocto"},
		"image": {"yocto"}, "machine": {"yocto"},
		"firmware":  {"debian", "debian-source", "tree", "buildroot", "yocto"},
		"defconfig": {"debian-source", "tree"}, "fragments": {"debian-source", "tree"}, "patches": {"debian-source", "tree"},
	} {
		if set[field] && k.Source != "" && !slices.Contains(of, k.Source) {
			r.Wrong("kernel."+field, "is only for source: %s", strings.Join(of, ", "))
		}
	}
}

func (r checker) firmware(f *Firmware) {
	if len(f.Packages) == 0 {
		r.Wrong("kernel.firmware.packages", "is empty: leave firmware out instead")
	}
	r.List("kernel.firmware.packages", f.Packages, packageForm)
	for i, pattern := range f.Exclude {
		if _, err := path.Match(strings.TrimSuffix(pattern, "/**"), ""); err != nil || pattern == "" {
			r.Wrong(fmt.Sprintf("kernel.firmware.exclude[%d]", i), "%q is not a path pattern", pattern)
		}
	}
}

func (r checker) bootloader(t *Target) {
	b := t.Bootloader
	switch b.Type {
	case "grub":
		r.Need("bootloader.suite", b.Suite, "name the Debian suite of the packages")
		if len(b.Packages) == 0 {
			r.Wrong("bootloader", "field packages is missing: name the Debian packages, for example grub-efi-amd64-bin")
		}
		if b.Addresses != nil {
			r.Wrong("bootloader.addresses", "is only for type: uboot")
		}
	case "uboot":
		r.uboot(b)
	case "uboot-ab":
		r.uboot(b)
		if t.Kernel != nil && t.Kernel.Format != "FIT" {
			r.Wrong("kernel", "field format is missing: the slots of uboot-ab have FITs: want format: FIT")
		}
	case "efiab":
		r.efiab(b)
	case "rpi", "rpi-uboot", "rpiab":
		r.raspberry(b)
	}
	r.List("bootloader.packages", b.Packages, packageForm)
	r.blobs(t)
	r.files(t)
	if t.Kernel == nil {
		r.Wrong("bootloader", "has nothing to load: the target has no kernel")
	}
}

// fit checks what a kernel in a FIT needs.
func (r checker) fit(t *Target) {
	k, b := t.Kernel, t.Bootloader
	if k.Format != "FIT" {
		return
	}
	switch {
	case b == nil:
		r.Wrong("kernel.format", "a FIT says where in memory its kernel goes: bootloader.addresses.kernel is missing")
	case b.Type == "grub":
		r.Wrong("kernel.format", "GRUB starts no FIT; leave format out")
	case b.Addresses == nil || b.Addresses.Kernel == 0:
		r.Wrong("bootloader", "field addresses.kernel is missing: a FIT says where in memory its kernel goes, for example addresses: {kernel: 0x40400000}")
	}
}

// uboot checks what the script needs, and that nothing is set that it does not use: a board
// without blobs has its U-Boot already.
func (r checker) uboot(b *Bootloader) {
	if b.Addresses == nil || b.Addresses.Initrd == 0 {
		r.Wrong("bootloader", "field addresses.initrd is missing: say where in memory the initrd goes, for example addresses: {initrd: 0x48000000}")
	}
	if b.Timeout != 0 {
		r.Wrong("bootloader.timeout", "is only for type: grub")
	}
	packaged := slices.ContainsFunc(b.Blobs, func(b Blob) bool { return b.Part == "" }) || slices.ContainsFunc(b.Files, func(f File) bool { return f.Part == "" })
	switch {
	case len(b.Packages) > 0 && !packaged:
		r.Wrong("bootloader.packages", "are for blobs and files, of which there are none")
	case len(b.Packages) > 0:
		r.Need("bootloader.suite", b.Suite, "name the Debian suite of the packages")
	case b.Suite != "":
		r.Wrong("bootloader.suite", "is that of packages, of which there are none")
	}
}

// efiab checks what the two stages for UEFI need.
func (r checker) efiab(b *Bootloader) {
	r.Need("bootloader.suite", b.Suite, "name the Debian suite of the packages")
	if !slices.Contains(b.Packages, "systemd-boot-efi") {
		r.Wrong("bootloader.packages", "lack systemd-boot-efi, which has the stub of the kernel's image")
	}
	grub := func(p string) bool { return strings.HasPrefix(p, "grub-efi-") }
	own := func(f File) bool { return f.PartitionRole() == "bootsel" && strings.HasPrefix(f.To, "EFI/BOOT/") }
	if !slices.ContainsFunc(b.Packages, grub) && !slices.ContainsFunc(b.Files, own) {
		r.Wrong("bootloader.packages", "have no first stage: want grub-efi-amd64-bin, or a file EFI/BOOT/BOOTX64.EFI with role bootsel")
	}
	if b.Addresses != nil {
		r.Wrong("bootloader.addresses", "are only for U-Boot")
	}
}

// raspberry checks what the firmware of the Raspberry Pi needs.
func (r checker) raspberry(b *Bootloader) {
	r.Need("bootloader.suite", b.Suite, "name the Debian suite of the packages")
	if !slices.Contains(b.Packages, "raspi-firmware") {
		r.Wrong("bootloader.packages", "lack raspi-firmware, which has the firmware")
	}
	isUBoot := func(f File) bool { return f.To == "u-boot.bin" }
	switch uboot := slices.ContainsFunc(b.Files, isUBoot); {
	case b.Type == "rpi-uboot" && !uboot:
		r.Wrong("bootloader.files", "lack u-boot.bin: want, for example, {to: u-boot.bin, package: u-boot-rpi, from: usr/lib/u-boot/rpi_arm64/u-boot.bin}")
	case b.Type != "rpi-uboot" && uboot:
		r.Wrong("bootloader.files", "have u-boot.bin, which nothing starts: say type: rpi-uboot")
	}
	if b.Type == "rpi-uboot" && (b.Addresses == nil || b.Addresses.Initrd == 0) {
		r.Wrong("bootloader", "field addresses.initrd is missing: say where in memory the initrd goes, for example addresses: {initrd: 0x4000000}")
	}
	if b.Timeout != 0 {
		r.Wrong("bootloader.timeout", "is only for type: grub")
	}
	if b.Type != "rpi-uboot" && b.Addresses != nil {
		r.Wrong("bootloader.addresses", "are only for U-Boot")
	}
}

func (r checker) appEngine(t *Target) {
	r.Form("appengine.suite", t.AppEngine.Suite, nameForm)
	for name, there := range map[string]bool{"kernel": t.Kernel != nil, "bootloader": t.Bootloader != nil, "image": t.Images != nil} {
		if there {
			r.Wrong(name, "an App Engine runs on a machine that has booted already; leave %s or appengine out", name)
		}
	}
}

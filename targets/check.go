package targets

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// tableReserve is the space that a partition table needs after the last partition, in
// MiB: GPT keeps its second copy in the last 33 sectors.
const tableReserve = 1

// mostPartitions are the numbers of entries of partition tables.
var mostPartitions = map[string]int{"mbr": 4, "gpt": 128}

// debianArchs are Debian's names for each GOARCH.
var debianArchs = map[string][]string{
	"amd64": {"amd64"}, "arm64": {"arm64"}, "arm": {"armhf", "armel"}, "mipsle": {"mipsel"}, "riscv64": {"riscv64"},
}

var (
	moduleForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_+-]*$`)
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	labelForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	machineForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.,=+-]*$`)
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
	}
	if t.Bootloader != nil {
		r.bootloader(t)
	}
	if t.Image != nil {
		r.image(t)
	}
	if t.Emulators != nil {
		r.emulators(t)
	}
	if t.AppEngine != nil {
		r.appEngine(t)
	}
	r.List("containers", t.Containers, nameForm)
	r.addons(t)
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
	if k.Source == "debian" {
		r.Need("kernel.suite", k.Suite, "name the Debian suite, for example bookworm")
		r.Need("kernel.package", k.Package, "name the kernel's package, for example linux-image-amd64")
		r.Need("arch.debian", a.Debian, "a kernel from Debian needs Debian's name of the architecture")
	}
	if k.Package != "" {
		r.Form("kernel.package", k.Package, packageForm)
	}
	if k.Suite != "" {
		r.Form("kernel.suite", k.Suite, nameForm)
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
	}
	r.List("bootloader.packages", b.Packages, packageForm)
	if t.Kernel == nil {
		r.Wrong("bootloader", "has nothing to load: the target has no kernel")
	}
}

// uboot checks what the script needs, and that nothing is set that it does not use: the
// board has its U-Boot already.
func (r checker) uboot(b *Bootloader) {
	if b.Addresses == nil || b.Addresses.Initrd == 0 {
		r.Wrong("bootloader", "field addresses.initrd is missing: say where in memory the initrd goes, for example addresses: {initrd: 0x48000000}")
	}
	for field, set := range map[string]bool{"suite": b.Suite != "", "packages": len(b.Packages) > 0, "timeout": b.Timeout != 0} {
		if set {
			r.Wrong("bootloader."+field, "is only for type: grub")
		}
	}
}

func (r checker) appEngine(t *Target) {
	r.Form("appengine.suite", t.AppEngine.Suite, nameForm)
	for name, there := range map[string]bool{"kernel": t.Kernel != nil, "bootloader": t.Bootloader != nil, "image": t.Image != nil} {
		if there {
			r.Wrong(name, "an App Engine runs on a machine that has booted already; leave %s or appengine out", name)
		}
	}
	if len(t.Containers) > 0 {
		r.Need("arch.debian", t.Arch.Debian, "containers from Debian's packages need Debian's name of the architecture")
	}
}

func (r checker) image(t *Target) {
	if t.Bootloader == nil {
		r.Wrong("image", "cannot boot: the target has no bootloader")
	} else {
		r.bootable(t)
	}
	parts := t.Image.Partitions
	if len(parts) == 0 {
		r.Wrong("image.partitions", "is empty: want at least boot and root")
		return
	}
	if most, known := mostPartitions[t.Image.Table]; known && len(parts) > most {
		r.Wrong("image.partitions", "has %d; a table of type %s holds %d", len(parts), t.Image.Table, most)
	}
	next := 1
	for i, p := range parts {
		r.partition(i, parts)
		next = r.extent(i, t.Image, next)
		if slices.IndexFunc(parts, func(o Partition) bool { return o.Name == p.Name }) < i {
			r.Wrong(partPath(i)+".name", "%q is there twice", p.Name)
		}
	}
	r.roles(t)
}

// roles checks how many partitions have each role, and which is last.
func (r checker) roles(t *Target) {
	parts := t.Image.Partitions
	var needed []string
	if t.Bootloader != nil {
		v, _ := lookup(values["bootloader.type"], t.Bootloader.Type)
		needed = v.loader.roles
	}
	last := len(parts) - 1
	for _, v := range values["image.partitions.role"] {
		least := v.role.least
		if slices.Contains(needed, v.name) {
			least = max(least, 1)
		}
		n := count(parts, v.name)
		if tooMany := v.role.most > 0 && n > v.role.most; n < least || tooMany {
			r.Wrong("image.partitions", "%d partitions with role %s; want %s", n, v.name, amount(least, v.role.most))
		}
		if v.role.last && parts[last].Role != v.name {
			r.Wrong(partPath(last)+".role", "the last partition must be %s: it grows to the end of the medium", v.name)
		}
	}
}

// amount returns a range in words; most 0 is any number.
func amount(least, most int) string {
	switch {
	case least == 1 && most == 1:
		return "one"
	case most == 0:
		return fmt.Sprintf("at least %d", least)
	case least == 0:
		return fmt.Sprintf("at most %d", most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// bootable checks that the boot loader reads the image's partition table.
func (r checker) bootable(t *Target) {
	v, known := lookup(values["bootloader.type"], t.Bootloader.Type)
	if table := t.Image.Table; known && table != "" && !slices.Contains(v.loader.tables, table) {
		r.Unsupported("image.table", "%q is not supported with bootloader.type %s; supported: %s", table, v.name, strings.Join(v.loader.tables, ", "))
	}
}

func partPath(i int) string { return fmt.Sprintf("image.partitions[%d]", i) }

func count(parts []Partition, role string) int {
	n := 0
	for _, p := range parts {
		if p.Role == role {
			n++
		}
	}
	return n
}

func (r checker) partition(i int, parts []Partition) {
	p, at := parts[i], partPath(i)
	r.Form(at+".name", p.Name, labelForm)
	v, known := lookup(values["image.partitions.format"], p.Format)
	format := v.format
	if known && len(p.Name) > format.label {
		r.Wrong(at+".name", "%q has %d characters; a label of %s holds %d", p.Name, len(p.Name), p.Format, format.label)
	}
	if p.Size == 0 && i != len(parts)-1 {
		r.Wrong(at, "field size is missing: only the last partition may take what is left")
	}
	if p.Size > 0 && p.Size < format.minimum {
		r.Wrong(at+".size", "%d MiB are too few for %s; want at least %d", p.Size, p.Format, format.minimum)
	}
	r.formatOfRole(at+".format", p)
}

// formatOfRole checks that a partition's role may have its format.
func (r checker) formatOfRole(at string, p Partition) {
	v, known := lookup(values["image.partitions.role"], p.Role)
	switch formats := v.role.formats; {
	case !known || p.Format == "" || len(formats) == 0 || slices.Contains(formats, p.Format):
	case v.role.reason != "":
		r.Wrong(at, "%s", v.role.reason)
	default:
		r.Unsupported(at, "%q is not supported for the role %s; supported: %s", p.Format, p.Role, strings.Join(formats, ", "))
	}
}

// extent checks the position of a partition and returns the first position for the next
// one.
func (r checker) extent(i int, image *Image, next int) int {
	p, at := image.Partitions[i], partPath(i)
	start := p.Start
	if start == 0 {
		start = next
	}
	if start < next {
		r.Wrong(at+".start", "%d MiB is within what comes before; the first free is %d", start, next)
	}
	end := start + max(p.Size, 1)
	if end > image.Size-tableReserve {
		r.Wrong(at, "%s ends at %d MiB and the image at %d, the last %d of it for the partition table; make image.size larger",
			p.Name, end, image.Size, tableReserve)
	}
	return end
}

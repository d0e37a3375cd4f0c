package targets

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// tableReserve is what a partition table needs behind the last partition, in
// MiB: GPT keeps its second copy in the last 33 sectors.
const tableReserve = 1

// mbrPartitions is how many entries an MBR has.
const mbrPartitions = 4

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

// check finds what single fields cannot tell.
func (r *reader) check(t *Target) {
	if strings.TrimSpace(t.Description) == "" {
		r.wrong("description", "is empty: say in one line what the target is")
	}
	if t.Platform != "" {
		r.form("platform", t.Platform, nameForm)
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
	if t.Emulator != nil {
		r.emulator(t)
	}
	if t.AppEngine != nil {
		r.appEngine(t)
	}
	r.list("containers", t.Containers, nameForm)
}

func (r *reader) form(path, text string, form *regexp.Regexp) {
	if !form.MatchString(text) {
		r.wrong(path, "%q is no legal name; want the form %s", text, form)
	}
}

// list checks the form of names and that none is there twice.
func (r *reader) list(path string, names []string, form *regexp.Regexp) {
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.form(at, name, form)
		if slices.Index(names, name) < i {
			r.wrong(at, "%q is listed twice", name)
		}
	}
}

func (r *reader) need(path, value, why string) {
	if value == "" {
		parent := path[:max(0, strings.LastIndex(path, "."))]
		r.wrong(parent, "field %s is missing: %s", path[strings.LastIndex(path, ".")+1:], why)
	}
}

func (r *reader) arch(a Arch) {
	switch {
	case a.Go == "arm":
		r.need("arch.arm", a.ARM, "arm needs 5, 6 or 7")
	case a.ARM != "":
		r.wrong("arch.arm", "is only for go: arm")
	}
	mips := a.Go == "mips" || a.Go == "mipsle"
	switch {
	case mips:
		r.need("arch.mips", a.MIPS, a.Go+" needs softfloat or hardfloat")
	case a.MIPS != "":
		r.wrong("arch.mips", "is only for go: mips and mipsle")
	}
	if a.Debian != "" && !slices.Contains(debianArchs[a.Go], a.Debian) {
		r.wrong("arch.debian", "%s does not run on go: %s", a.Debian, a.Go)
	}
	if a.Debian == "armhf" && a.ARM != "7" {
		r.wrong("arch.debian", "armhf needs arm: 7")
	}
}

func (r *reader) kernel(k *Kernel, a Arch) {
	if k.Source == "debian" {
		r.need("kernel.suite", k.Suite, "name the Debian suite, for example bookworm")
		r.need("kernel.package", k.Package, "name the kernel's package, for example linux-image-amd64")
		r.need("arch.debian", a.Debian, "a kernel from Debian needs Debian's name of the architecture")
	}
	if k.Package != "" {
		r.form("kernel.package", k.Package, packageForm)
	}
	if k.Suite != "" {
		r.form("kernel.suite", k.Suite, nameForm)
	}
	r.list("kernel.early_modules", k.EarlyModules, moduleForm)
	for i, arg := range k.Arguments {
		if arg == "" || strings.ContainsAny(arg, " \t\"") {
			r.wrong(fmt.Sprintf("kernel.arguments[%d]", i), "%q: want one argument without blanks and quotes", arg)
		}
	}
	if k.Firmware != nil {
		r.firmware(k.Firmware)
	}
}

func (r *reader) firmware(f *Firmware) {
	if len(f.Packages) == 0 {
		r.wrong("kernel.firmware.packages", "is empty: leave firmware out instead")
	}
	r.list("kernel.firmware.packages", f.Packages, packageForm)
	for i, pattern := range f.Exclude {
		if _, err := path.Match(strings.TrimSuffix(pattern, "/**"), ""); err != nil || pattern == "" {
			r.wrong(fmt.Sprintf("kernel.firmware.exclude[%d]", i), "%q is no path pattern", pattern)
		}
	}
}

func (r *reader) bootloader(t *Target) {
	b := t.Bootloader
	if b.Type == "grub" {
		r.need("bootloader.suite", b.Suite, "name the Debian suite of the packages")
		if len(b.Packages) == 0 {
			r.wrong("bootloader", "field packages is missing: name the Debian packages, for example grub-efi-amd64-bin")
		}
	}
	r.list("bootloader.packages", b.Packages, packageForm)
	if t.Kernel == nil {
		r.wrong("bootloader", "has nothing to load: the target has no kernel")
	}
}

func (r *reader) emulator(t *Target) {
	e := t.Emulator
	r.form("emulator.machine", e.Machine, machineForm)
	if e.CPU != "" {
		r.form("emulator.cpu", e.CPU, machineForm)
	}
	if len(e.Packages) == 0 {
		r.wrong("emulator.packages", "is empty: name the packages that hold the emulator")
	}
	r.list("emulator.packages", e.Packages, packageForm)
	if t.Image == nil {
		r.wrong("emulator", "has nothing to start: the target has no image")
	}
}

func (r *reader) appEngine(t *Target) {
	r.form("appengine.suite", t.AppEngine.Suite, nameForm)
	for name, there := range map[string]bool{"kernel": t.Kernel != nil, "bootloader": t.Bootloader != nil, "image": t.Image != nil} {
		if there {
			r.wrong(name, "an App Engine runs on a machine that has booted already; leave %s or appengine out", name)
		}
	}
	if len(t.Containers) > 0 {
		r.need("arch.debian", t.Arch.Debian, "containers from Debian's packages need Debian's name of the architecture")
	}
}

func (r *reader) image(t *Target) {
	if t.Bootloader == nil {
		r.wrong("image", "cannot boot: the target has no bootloader")
	}
	parts := t.Image.Partitions
	if len(parts) == 0 {
		r.wrong("image.partitions", "is empty: want at least boot and root")
		return
	}
	if t.Image.Table == "mbr" && len(parts) > mbrPartitions {
		r.wrong("image.partitions", "has %d; an mbr holds %d", len(parts), mbrPartitions)
	}
	next := 1
	for i, p := range parts {
		r.partition(i, parts)
		next = r.extent(i, t.Image, next)
		if slices.IndexFunc(parts, func(o Partition) bool { return o.Name == p.Name }) < i {
			r.wrong(partPath(i)+".name", "%q is there twice", p.Name)
		}
	}
	for _, role := range []string{"boot", "root"} {
		if n := count(parts, role); n != 1 {
			r.wrong("image.partitions", "%d partitions with role %s; want one", n, role)
		}
	}
	if last := len(parts) - 1; parts[last].Role != "root" {
		r.wrong(partPath(last)+".role", "the last partition must be root: it grows to the end of the medium")
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

func (r *reader) partition(i int, parts []Partition) {
	p, at := parts[i], partPath(i)
	r.form(at+".name", p.Name, labelForm)
	format, known := lookup(values["image.partitions.format"], p.Format)
	if known && len(p.Name) > format.label {
		r.wrong(at+".name", "%q has %d characters; a label of %s holds %d", p.Name, len(p.Name), p.Format, format.label)
	}
	if p.Size == 0 && i != len(parts)-1 {
		r.wrong(at, "field size is missing: only the last partition may take what is left")
	}
	if p.Size > 0 && p.Size < format.minimum {
		r.wrong(at+".size", "%d MiB are too few for %s; want at least %d", p.Size, p.Format, format.minimum)
	}
	if p.Role == "root" && p.Format != "ext4" {
		r.wrong(at+".format", "the storage needs ext4: objects are hard-linked")
	}
}

// extent checks where a partition lies and returns where the next may begin.
func (r *reader) extent(i int, image *Image, next int) int {
	p, at := image.Partitions[i], partPath(i)
	start := p.Start
	if start == 0 {
		start = next
	}
	if start < next {
		r.wrong(at+".start", "%d MiB is within what comes before; the first free is %d", start, next)
	}
	end := start + max(p.Size, 1)
	if end > image.Size-tableReserve {
		r.wrong(at, "%s ends at %d MiB and the image at %d, the last %d of it for the partition table; make image.size larger",
			p.Name, end, image.Size, tableReserve)
	}
	return end
}

package adapters

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/buildroot"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Buildroot is what becomes a list: builds of Buildroot, of which one at most has the kernel and
// the others are containers, and what their configurations do not say.
type Buildroot struct {
	// With is a partial list with what they do not say; "" for none. Paths in it may have a
	// component ${BINARIES_DIR}, from which on they are below images/ of the build with the kernel.
	With string
	// Args are arguments of containers by the names of both, over those of With.
	Args map[string]map[string]any
	// Target, Release and Outputs are the fields of the list; "" and nil leave those of With, or
	// what the configurations of the builds say.
	Target, Release string
	Outputs         []string
	// Epoch is the time of everything, in seconds since 1970; 0 leaves that of With.
	Epoch int64
	// Builds are the output directories.
	Builds []BuildrootBuild
	// Genimage is a file genimage.cfg with the layout of the disk; "" for none. Its files are those
	// of images/ of the build with the kernel.
	Genimage string
	// Size is that of the medium in MiB for such a layout; 0 for what the file says.
	Size int
}

// BuildrootBuild is one output directory.
type BuildrootBuild struct {
	Dir string
	// Container is the name of the container that the build becomes. "" for a build with a kernel,
	// and for one whose option BR2_PANTAVISOR_CONTAINER_NAME has it.
	Container string
	// Form is that of the root file system to take, squashfs, tar or cpio; "" for the best one.
	Form string
}

// List makes the list of inputs.
func (b *Buildroot) List() (*Made, error) {
	m := &Made{List: &inputs.List{Spec: inputs.Spec}}
	more := map[string]inputs.Container{}
	if b.With != "" {
		var err error
		if m.List, more, err = readPartial(b.With); err != nil {
			return nil, err
		}
	}
	for name, args := range b.Args {
		c := more[name]
		c.Args = maps.Clone(c.Args)
		if c.Args == nil {
			c.Args = map[string]any{}
		}
		maps.Copy(c.Args, args)
		more[name] = c
	}
	bsp, err := b.builds(m, more)
	if err != nil {
		return nil, err
	}
	if err := b.general(m, bsp); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(more)) {
		return nil, fault.New(fault.BadInput, "container %s has no root file system: no output directory is given for it (%s=DIR)", name, name)
	}
	if bsp != nil {
		if err := b.bsp(m, bsp); err != nil {
			return nil, err
		}
	}
	return m, m.List.Check("the list of inputs of " + m.List.Target)
}

// builds opens the builds, adds the containers, and returns the one with the kernel; nil for
// none.
func (b *Buildroot) builds(m *Made, more map[string]inputs.Container) (bsp *buildroot.Output, err error) {
	var first *buildroot.Output
	for _, one := range b.Builds {
		o, err := buildroot.Open(one.Dir)
		if err != nil {
			return nil, err
		}
		if first != nil {
			if err := sameArch(first, o); err != nil {
				return nil, err
			}
		}
		first = cmp.Or(first, o)
		if one.Container == "" && o.HasKernel() {
			if bsp != nil {
				return nil, fault.New(fault.BadInput, "%s and %s both have a kernel (BR2_LINUX_KERNEL), and a revision has one: if one is a container, name it: NAME=%s", bsp.Dir, o.Dir, o.Dir)
			}
			bsp = o
			continue
		}
		if err := b.container(m, o, one, more); err != nil {
			return nil, err
		}
	}
	if first == nil {
		return nil, fault.New(fault.BadInput, "name the output directories of Buildroot, those with .config and images/")
	}
	m.List.Arch, err = first.Arch()
	return bsp, err
}

func sameArch(a, b *buildroot.Output) error {
	one, err := a.Arch()
	if err != nil {
		return err
	}
	two, err := b.Arch()
	if err != nil {
		return err
	}
	if one.Go != two.Go {
		return fault.New(fault.BadInput, "%s is for %s, %s is for %s: what is in one revision runs on one CPU", a.Dir, one.Go, b.Dir, two.Go)
	}
	return nil
}

// general adds what is not of one build.
func (b *Buildroot) general(m *Made, bsp *buildroot.Output) error {
	l := m.List
	named := ""
	if bsp != nil {
		var err error
		if named, err = bsp.Value("BR2_PANTAVISOR_TARGET"); err != nil {
			return err
		}
	} else if len(l.Containers) > 0 {
		named = l.Containers[0].Name
	}
	l.Target, l.Release = cmp.Or(b.Target, l.Target, named), cmp.Or(b.Release, l.Release)
	if l.Target == "" {
		return fault.New(fault.BadInput, "name the firmware: --target NAME, or the option BR2_PANTAVISOR_TARGET")
	}
	l.Epoch = cmp.Or(b.Epoch, l.Epoch)
	if l.Epoch == 0 {
		return fault.New(fault.BadInput, "name the time of the firmware: --epoch SECONDS, or SOURCE_DATE_EPOCH, which Buildroot sets with BR2_REPRODUCIBLE; the clock is never used")
	}
	switch {
	case len(b.Outputs) > 0:
		l.Outputs = b.Outputs
	case len(l.Outputs) > 0:
	case bsp != nil:
		l.Outputs = []string{"export"}
		if len(l.Images) > 0 || b.Genimage != "" {
			l.Outputs = []string{"image", "export", "revision"}
		}
	default:
		l.Outputs = []string{"containers"}
	}
	return nil
}

// container adds the container that a build becomes.
func (b *Buildroot) container(m *Made, o *buildroot.Output, one BuildrootBuild, more map[string]inputs.Container) error {
	name, err := o.Value("BR2_PANTAVISOR_CONTAINER_NAME")
	if err != nil {
		return err
	}
	if name = cmp.Or(one.Container, name); name == "" {
		return fault.New(fault.BadInput, "%s has no kernel (BR2_LINUX_KERNEL), so that it is a container: name it, NAME=%s, or set BR2_PANTAVISOR_CONTAINER_NAME", o.Dir, one.Dir)
	}
	root, err := o.Root(one.Form)
	if err != nil {
		return err
	}
	c := more[name]
	delete(more, name)
	c.Name, c.Root = name, inputs.Tree{Form: root.Form, Path: root.Path}
	if err := configured(o, &c); err != nil {
		return err
	}
	m.List.Containers = append(m.List.Containers, c)
	return b.documents(m, o, name)
}

// configured adds what the options of the external tree say of a container, and With does not.
func configured(o *buildroot.Output, c *inputs.Container) error {
	const prefix = "BR2_PANTAVISOR_CONTAINER_"
	words := func(option string) []string {
		value, _ := o.Value(prefix + option) // make has expanded nothing in them
		return strings.Fields(value)
	}
	if len(c.Entrypoint) == 0 {
		c.Entrypoint = words("ENTRYPOINT")
	}
	args := map[string]any{}
	if group, err := o.Value(prefix + "GROUP"); err != nil {
		return err
	} else if group != "" {
		args["PV_GROUP"] = group
	}
	if roles := words("ROLES"); len(roles) > 0 {
		args["PV_ROLES"] = roles
	}
	for _, word := range words("ARGS") {
		name, value, given := strings.Cut(word, "=")
		if !given {
			return fault.New(fault.BadInput, "%s: %sARGS: %q: want words NAME=VALUE", o.ConfigFile, prefix, word)
		}
		args[name] = value
	}
	maps.Copy(args, c.Args)
	if len(args) > 0 {
		c.Args = args
	}
	for _, word := range words("PERSISTENCE") {
		at := strings.LastIndex(word, ":")
		if at <= 0 {
			return fault.New(fault.BadInput, "%s: %sPERSISTENCE: %q: want words PATH:POLICY, /var/lib/app:permanent for example", o.ConfigFile, prefix, word)
		}
		if c.Persistence == nil {
			c.Persistence = map[string]string{}
		}
		if _, given := c.Persistence[word[:at]]; !given {
			c.Persistence[word[:at]] = word[at+1:]
		}
	}
	return nil
}

// bsp adds the kernel, its firmware, the runtime and the files of the boot loader.
func (b *Buildroot) bsp(m *Made, o *buildroot.Output) error {
	k, err := o.Kernel()
	if err != nil {
		return err
	}
	if err := addKernel(m, k); err != nil {
		return err
	}
	l := m.List
	if l.Kernel.Modules != nil && l.Kernel.Firmware == nil && isDir(filepath.Join(o.Target(), "lib/firmware")) {
		l.Kernel.Firmware = &inputs.Firmware{Trees: []inputs.Tree{{Form: "directory", Path: o.Target()}}}
	}
	if l.Runtime == nil {
		if l.Runtime, err = runtimeOf(o); err != nil {
			return err
		}
	}
	if b.Genimage != "" {
		if err := b.layout(m, o); err != nil {
			return err
		}
	}
	if err := raspberry(l, o); err != nil {
		return err
	}
	expand(l, o)
	if l.Packages == nil {
		if l.Packages, err = packages(o); err != nil {
			return err
		}
	}
	return b.documents(m, o, l.Target)
}

// addKernel adds the kernel to what With says of it.
func addKernel(m *Made, k *buildroot.Kernel) error {
	if m.List.Kernel == nil {
		m.List.Kernel = &inputs.Kernel{}
	}
	to := m.List.Kernel
	to.Image = inputs.File{Path: k.Image}
	switch {
	case to.Config != nil:
	case k.Config != "":
		to.Config = &inputs.File{Path: k.Config}
	default:
		m.note("the directory of the kernel's build is gone: its configuration is not checked")
	}
	switch {
	case k.Modules != "":
		to.Modules = &inputs.Tree{Form: "directory", Path: k.Modules}
	case k.Release == "" && to.Release == "":
		return fault.New(fault.BadInput, "the kernel has no modules, and the directory of its build, which tells its release, is gone: say it in kernel.release, or build it again (make linux-rebuild)")
	default:
		to.Release = cmp.Or(to.Release, k.Release)
	}
	for _, t := range k.Trees {
		to.DeviceTrees = append(to.DeviceTrees, inputs.Named{Name: t.Name, Path: t.Path})
	}
	if len(k.Overlays) > 0 && len(to.Overlays) == 0 {
		m.note("%d overlays of device trees are left out: name those that are to be applied under kernel.overlays", len(k.Overlays))
	}
	return nil
}

// runtimeFile is where the package pantavisor installs the device binary.
const runtimeFile = "usr/bin/pantavisor"

func runtimeOf(o *buildroot.Output) (*inputs.File, error) {
	file := filepath.Join(o.Target(), runtimeFile)
	if !o.Enabled("BR2_PACKAGE_PANTAVISOR") {
		return nil, fault.New(fault.BadInput, "%s: the build has no runtime: set BR2_PACKAGE_PANTAVISOR, or name the device binary under runtime", o.ConfigFile)
	}
	if _, err := os.Stat(file); err != nil {
		return nil, fault.New(fault.Missing, "%s does not exist, and BR2_PACKAGE_PANTAVISOR makes it: the build is not finished (make)", file)
	}
	return &inputs.File{Path: file}, nil
}

// layout imports genimage.cfg.
func (b *Buildroot) layout(m *Made, o *buildroot.Output) error {
	g, err := importGenimage(b.Genimage, b.Size)
	if err != nil {
		return err
	}
	k, images := m.List.Kernel, filepath.Join(o.Dir, "images")
	return g.addTo(m, images, func(name string) string {
		file := filepath.Join(images, filepath.FromSlash(name))
		switch {
		case file == k.Image.Path || slices.ContainsFunc(k.DeviceTrees, func(t inputs.Named) bool { return t.Path == file }):
			return "kernel and device trees are in the storage"
		case strings.HasPrefix(name, "rpi-firmware/") || slices.Contains(scripts, filepath.Base(name)):
			return "the boot loader's files are made (bootloader.type)"
		}
		return ""
	})
}

// scripts are files of boot loaders that choose what is booted.
var scripts = []string{"boot.scr", "extlinux.conf", "grub.cfg", "cmdline.txt", "config.txt"}

// raspberry adds the firmware of the Raspberry Pi for loaders that take it.
func raspberry(l *inputs.List, o *buildroot.Output) error {
	const option = "BR2_PACKAGE_RPI_FIRMWARE"
	b := l.Bootloader
	if b == nil || !strings.HasPrefix(b.Type, "rpi") || len(b.Packages) > 0 {
		return nil
	}
	if !o.Enabled(option) {
		return fault.New(fault.BadInput, "%s: bootloader.type %s wants the firmware of the Raspberry Pi: set %s", o.ConfigFile, b.Type, option)
	}
	for file, from := range map[string]string{"bootcode.bin": "_BOOTCODE_BIN", "start.elf": "_VARIANT_PI", "start4.elf": "_VARIANT_PI4"} {
		if !o.Enabled(option + from) {
			return fault.New(fault.BadInput, "%s: the boot partition has the firmware for all models: set %s%s, which makes %s", o.ConfigFile, option, from, file)
		}
		if _, err := o.Image("rpi-firmware/"+file, option+from); err != nil {
			return err
		}
	}
	b.Packages = []inputs.Package{{Name: "raspi-firmware", Path: filepath.Join(o.Dir, "images/rpi-firmware"), Place: "usr/lib/raspi-firmware"}}
	return nil
}

// binaries stands for images/ of the build with the kernel in paths of With.
const binaries = "${BINARIES_DIR}"

func expand(l *inputs.List, o *buildroot.Output) {
	l.Paths(func(path *string) {
		if _, rest, found := strings.Cut(*path, binaries); found {
			*path = filepath.Join(o.Dir, "images", rest)
		}
	})
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// Files in an output directory besides those of package buildroot.
const (
	fileList     = "build/packages-file-list.txt"
	legalList    = "legal-info/manifest.csv"
	cyclonedx    = "cyclonedx.json"
	maxFileList  = 256 << 20
	maxLegalList = 16 << 20
)

// documents adds what a build says of its sources: the table of make legal-info, and
// cyclonedx.json, the output of utils/generate-cyclonedx.
func (b *Buildroot) documents(m *Made, o *buildroot.Output, name string) error {
	for _, d := range []struct{ name, file string }{{"manifest.csv", legalList}, {cyclonedx, cyclonedx}} {
		file := filepath.Join(o.Dir, d.file)
		_, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading Buildroot's output")
		}
		m.List.SBOM = append(m.List.SBOM, inputs.Named{Name: name + "-" + d.name, Path: file})
	}
	return nil
}

// packages returns lines for /etc/build: the packages that have files in the root file system,
// with their versions where make legal-info has written them.
func packages(o *buildroot.Output) ([]string, error) {
	text, err := bounded.ReadRegular(filepath.Join(o.Dir, fileList), maxFileList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the packages of the root file system")
	}
	versions, err := versionsOf(o)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxFileList)
	for n := 1; lines.Scan(); n++ {
		name, _, given := strings.Cut(lines.Text(), ",")
		if !given || strings.ContainsAny(name, " \t") {
			return nil, fault.New(fault.BadInput, "%s:%d: want PACKAGE,FILE", filepath.Join(o.Dir, fileList), n)
		}
		if v := versions[name]; v != "" {
			name += "=" + v
		}
		found[name] = true
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// versionsOf reads the versions of packages from the table of make legal-info, whose first
// columns are PACKAGE and VERSION.
func versionsOf(o *buildroot.Output) (map[string]string, error) {
	text, err := bounded.ReadRegular(filepath.Join(o.Dir, legalList), maxLegalList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the table of make legal-info")
	}
	out := map[string]string{}
	rows := csv.NewReader(bytes.NewReader(text))
	rows.FieldsPerRecord = -1
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil && len(row) < 2 {
			err = errShort
		}
		if err != nil {
			return nil, fault.New(fault.BadInput, "%s is not the table of make legal-info: %w", filepath.Join(o.Dir, legalList), err)
		}
		if version := row[1]; n > 0 && !strings.ContainsAny(version, " \t\n") {
			out[row[0]] = version
		}
	}
}

var errShort = errors.New("a row has one column")

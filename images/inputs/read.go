package inputs

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/targets"
)

// maxList bounds the file of a list, in bytes.
const maxList = 1 << 20

var kind = yamlfile.Kind{Name: "a list of inputs", Text: targets.CheckValue, Limit: maxList}

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	fileForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	treeForm   = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._,+-]*/)?[A-Za-z0-9][A-Za-z0-9._,+-]*\.dtb$`)
	layerForm  = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._,+-]*/)*[A-Za-z0-9][A-Za-z0-9._,+-]*\.dtbo$`)
	moduleForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_+-]*$`)
)

// Read reads and checks the list in a file; JSON, or the same as YAML. The error has all
// mistakes with their lines. It looks at the inputs themselves as far as to know that they are
// there and of the right kind; [List.Digest] reads them.
func Read(file string) (*List, error) {
	text, err := bounded.ReadRegular(file, maxList)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the list of inputs")
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the list of inputs")
	}
	return parse(file, dir, text)
}

func parse(name, dir string, text []byte) (*List, error) {
	l := &List{dir: dir}
	f, some := yamlfile.Read(name, kind, text, l)
	if some {
		l.check(checker{f})
	}
	return l, f.Err()
}

// Check checks a list that was not read from a file, as [Read] does. Lines in its error are those
// of [List.Encode]; name stands for the file.
func (l *List) Check(name string) error {
	text, err := l.Encode()
	if err == nil {
		_, err = parse(name, l.dir, text)
	}
	return err
}

// checker reports the mistakes of a list.
type checker struct{ *yamlfile.File }

func (l *List) check(r checker) {
	r.Form("target", l.Target, nameForm)
	if len(l.Outputs) == 0 {
		r.Wrong("outputs", "is empty: name what is to be made, image for example")
	}
	if l.Kernel != nil {
		l.Kernel.check(r)
	}
	for i, a := range l.Addons {
		l.addon(r, fmt.Sprintf("addons[%d]", i), i, a)
	}
	for i, c := range l.Containers {
		l.container(r, fmt.Sprintf("containers[%d]", i), i, c)
	}
	r.named("config.trust", l.Config.Trust, fileForm)
	r.named("sbom", l.SBOM, fileForm)
	r.named("vex", l.VEX, fileForm)
	targets.CheckSupport(r.File, "support", l.Support)
	l.medium(r)
	l.installing(r)
	l.signing(r)
	l.surplus(r)
	for _, in := range l.all() {
		l.input(r, in)
	}
}

func (k *Kernel) check(r checker) {
	r.named("kernel.device_trees", k.DeviceTrees, treeForm)
	r.named("kernel.overlays", k.Overlays, layerForm)
	r.List("kernel.early_modules", k.EarlyModules, moduleForm)
	switch {
	case k.Modules == nil && k.Release == "":
		r.Wrong("kernel", "field release is missing: say the release of a kernel without modules (uname -r)")
	case k.Modules == nil && len(k.EarlyModules) > 0:
		r.Wrong("kernel.early_modules", "there are no modules: kernel.modules is missing")
	case k.Modules == nil && k.Firmware != nil:
		r.Wrong("kernel.firmware", "is for modules, of which there are none: kernel.modules is missing")
	case k.Modules != nil && k.Release != "":
		r.Wrong("kernel.release", "is that of the modules; leave it out")
	}
	if k.Release != "" {
		r.Form("kernel.release", k.Release, kernel.ReleaseForm)
	}
	k.format(r)
	k.firmware(r)
}

// format checks the forms of the trees, and what the boot loader's script takes over.
func (k *Kernel) format(r checker) {
	if k.Modules != nil {
		r.forms("kernel.modules", k.Modules.Form, "directory", "tar", "squashfs")
	}
	if len(k.Overlays) > 0 && len(k.DeviceTrees) == 0 {
		r.Wrong("kernel.overlays", "have no device tree to be applied to: device_trees is empty")
	}
	for i, arg := range k.Arguments {
		if arg == "" || strings.ContainsAny(arg, " \t\"") {
			r.Wrong(fmt.Sprintf("kernel.arguments[%d]", i), "%q: want one argument without blanks and quotes", arg)
		}
	}
}

func (k *Kernel) firmware(r checker) {
	if k.Firmware == nil {
		return
	}
	for i, t := range k.Firmware.Trees {
		r.forms(fmt.Sprintf("kernel.firmware.trees[%d]", i), t.Form, "directory", "tar")
	}
	for i, pattern := range k.Firmware.Exclude {
		if _, err := path.Match(strings.TrimSuffix(pattern, "/**"), ""); err != nil || pattern == "" {
			r.Wrong(fmt.Sprintf("kernel.firmware.exclude[%d]", i), "%q is not a path pattern", pattern)
		}
	}
}

// named checks the names of inputs, and that no two have the same one.
func (r checker) named(at string, list []Named, form *regexp.Regexp) {
	var names []string
	for i, n := range list {
		r.Form(fmt.Sprintf("%s[%d].name", at, i), n.Name, form)
		if slices.Contains(names, n.Name) {
			r.Wrong(fmt.Sprintf("%s[%d].name", at, i), "%q is there twice", n.Name)
		}
		names = append(names, n.Name)
	}
}

// forms checks that a tree has one of the forms that are possible where it is.
func (r checker) forms(at, form string, possible ...string) {
	if form != "" && !slices.Contains(possible, form) {
		r.Wrong(at+".form", "%s is not possible here: want %s", form, strings.Join(possible, " or "))
	}
}

func (l *List) addon(r checker, at string, i int, a Addon) {
	r.Form(at+".name", a.Name, nameForm)
	if slices.IndexFunc(l.Addons, func(o Addon) bool { return o.Name == a.Name }) < i {
		r.Wrong(at+".name", "%q is there twice", a.Name)
	}
	if (a.Archive == nil) == (a.Directory == nil) {
		r.Wrong(at, "want one of archive and directory")
	}
}

// parts are names of a state that are not containers.
var parts = []string{"bsp", "device", "device.json", "_sigs", "_config"}

func (l *List) container(r checker, at string, i int, c Container) {
	r.Form(at+".name", c.Name, nameForm)
	if slices.Contains(parts, c.Name) {
		r.Wrong(at+".name", "%q is another part of a revision", c.Name)
	}
	if slices.IndexFunc(l.Containers, func(o Container) bool { return o.Name == c.Name }) < i {
		r.Wrong(at+".name", "%q is there twice", c.Name)
	}
	known := template.Arguments()
	for _, name := range slices.Sorted(maps.Keys(c.Args)) {
		if !slices.Contains(known, name) {
			r.Wrong(at+".args."+name, "%v", spelling.Unknown("argument", name, known))
		}
	}
	for field, set := range map[string]bool{"compression": c.Compression != "", "block": c.Block != 0, "exclude": len(c.Exclude) > 0} {
		if set && c.Root.Form == "squashfs" {
			r.Wrong(at+"."+field, "a squashfs is taken as it is; leave it out")
		}
	}
	if o := (squashfs.Options{BlockSize: int(c.Block)}); c.Block != 0 && o.Check() != nil {
		r.Wrong(at+".block", "%v", o.Check())
	}
	for j, p := range c.Exclude {
		if !fs.ValidPath(p) || p == "." {
			r.Wrong(fmt.Sprintf("%s.exclude[%d]", at, j), "%q is not a path below the root: want usr/share/doc for example", p)
		}
	}
}

// medium checks layout and boot loader as those of a target.
func (l *List) medium(r checker) {
	b := l.Bootloader
	if l.fit() && (b == nil || b.Addresses == nil || b.Addresses.Kernel == 0) {
		r.Wrong("kernel.format", "a FIT says where in memory its kernel goes: bootloader.addresses.kernel is missing")
	}
	if l.Kernel != nil && len(l.Kernel.Arguments) > 0 && (b == nil || b.Type == "") {
		r.Wrong("kernel.arguments", "nothing takes them: they are for a loader whose script is made, and bootloader.type is missing")
	}
	if b == nil {
		if len(l.Images) > 0 {
			r.Wrong("image", "cannot boot: bootloader is missing")
		}
		return
	}
	for i, p := range b.Packages {
		if p.Place != "" && (!fs.ValidPath(p.Place) || p.Place == ".") {
			r.Wrong(fmt.Sprintf("bootloader.packages[%d].place", i), "%q is not a path in a package: want usr/lib/raspi-firmware for example", p.Place)
		}
	}
	for i, t := range b.Trees {
		l.role(r, fmt.Sprintf("bootloader.trees[%d].role", i), t.Role)
	}
	l.typed(r, b)
	targets.CheckMedia(r.File, l.target())
}

// typed checks that a loader has what goes with its type, or with none.
func (l *List) typed(r checker, b *Bootloader) {
	if b.Type != "" {
		if b.State != nil || b.Slot != nil {
			r.Wrong("bootloader", "state and slot are made by a loader with a type; leave them or the type out")
		}
		return
	}
	for field, set := range map[string]bool{"addresses": b.Addresses != nil && !l.fit(), "timeout": b.Timeout != 0, "packages": b.Packages != nil} {
		if set {
			r.Wrong("bootloader."+field, "is for a loader whose script is made: bootloader.type is missing")
		}
	}
}

// fit reports whether the kernel is in a FIT, which says where in memory it goes.
func (l *List) fit() bool { return l.Kernel != nil && l.Kernel.Format == uboot.FIT }

// role checks that a partition of the media has a role for files.
func (l *List) role(r checker, at, role string) {
	p := l.target().Partition(role)
	switch {
	case p == nil:
		r.Wrong(at, "no partition has the role %s", role)
	case p.Format == "raw" || role == "root":
		r.Wrong(at, "a partition with role %s and format %s takes no files of the boot loader", role, p.Format)
	}
}

func (l *List) signing(r checker) {
	s := l.Signing
	if s == nil {
		return
	}
	if (s.Key == nil) == (s.Command == "") {
		r.Wrong("signing", "want one of key and command")
	}
	if s.Command != "" && s.Chain == nil {
		r.Wrong("signing", "field chain is missing: the public key of the command's key is in its certificate")
	}
	if s.Command == "" && s.Input != "" {
		r.Wrong("signing.input", "is what a command reads, and there is none")
	}
}

// surplus reports inputs that no output takes: a list says what is in the firmware.
func (l *List) surplus(r checker) {
	made := func(names ...string) bool {
		return slices.ContainsFunc(l.Outputs, func(o string) bool { return slices.Contains(names, o) })
	}
	storage, initrd := made("image", "rootfs", "revision", "appengine", "installer", "tezi"), l.Kernel != nil
	lack := ""
	if l.Kernel == nil {
		lack = ", and kernel is missing"
	}
	for field, c := range map[string]struct{ given, used bool }{
		"runtime":              {l.Runtime != nil, initrd || made("appengine")},
		"kernel":               {l.Kernel != nil, made("image", "export", "rootfs", "revision", "installer", "tezi")},
		"image":                {len(l.Images) > 0, made("image", "installer", "tezi")},
		"bootloader":           {l.Bootloader != nil, made("image", "rootfs", "installer", "tezi") || l.fit()},
		"installer":            {l.Installer != nil, made("installer")},
		"tezi":                 {l.Tezi != nil, made("tezi")},
		"containers":           {len(l.Containers) > 0, storage || made(outputContainers)},
		"exports":              {len(l.Exports) > 0, storage},
		"signing":              {l.Signing != nil, storage},
		"config.stepskel":      {l.Config.Stepskel != nil, storage},
		"config.factory_token": {l.Config.FactoryToken != nil, storage},
		"config.image":         {l.Config.Image != nil, made("image", "rootfs", "installer", "tezi")},
		"config.skel":          {l.Config.Skel != nil, initrd || made("appengine")},
		"config.trust":         {len(l.Config.Trust) > 0, initrd || made("appengine")},
		"addons":               {len(l.Addons) > 0, initrd},
		"board":                {l.Board != nil, initrd},
	} {
		if c.given && !c.used {
			r.Wrong(field, "nothing takes it: outputs are %s%s", strings.Join(l.Outputs, ", "), lack)
		}
	}
	if made(outputContainers) && len(l.Containers) == 0 {
		r.Wrong("outputs", "containers has none to export: field containers is missing")
	}
	if l.Runtime == nil && (initrd || made("appengine")) {
		r.Wrong("", "field runtime is missing: the initrd and an App Engine have the device binary")
	}
}

// input checks one input as far as that needs no reading.
func (l *List) input(r checker, in input) {
	at := in.field + ".path"
	if *in.sha256 != "" && !digestForm.MatchString(*in.sha256) {
		r.Wrong(in.field+".sha256", "%q is not a SHA-256, 64 hexadecimal digits", *in.sha256)
	}
	if *in.path == "" { // the file lacks it, which is told
		return
	}
	if filepath.Clean(*in.path) != *in.path || !filepath.IsAbs(*in.path) && !filepath.IsLocal(*in.path) {
		r.Wrong(at, "%q: want a clean path without .., absolute or below the directory of the list", *in.path)
		return
	}
	info, err := os.Stat(l.place(*in.path))
	switch {
	case err != nil:
		r.Wrong(at, "%v", err)
	case in.dir && !info.IsDir():
		r.Wrong(at, "%s is not a directory", *in.path)
	case !in.dir && !info.Mode().IsRegular():
		r.Wrong(at, "%s is not a regular file", *in.path)
	}
}

// place returns where an input is on this machine.
func (l *List) place(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.dir, p)
}

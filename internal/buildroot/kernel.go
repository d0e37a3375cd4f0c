package buildroot

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Kernel is the kernel that a build has made.
type Kernel struct {
	// Image is what the boot loader starts, Config the kernel's configuration; "" when the
	// directory of its build is gone.
	Image, Config string
	// Release is that of the kernel (uname -r); "" when only its modules tell it.
	Release string
	// Modules is the directory lib/modules of the root file system, which has Release alone; ""
	// for a kernel without modules.
	Modules string
	// Trees are device trees, Overlays are overlays for them.
	Trees, Overlays []DeviceTree
}

// DeviceTree is a compiled device tree.
type DeviceTree struct {
	// Name is the path below the kernel's directory of device trees.
	Name string
	// Path is where it is.
	Path string
}

// HasKernel reports whether the build makes a kernel.
func (o *Output) HasKernel() bool { return o.Enabled("BR2_LINUX_KERNEL") }

// Kernel returns the kernel.
func (o *Output) Kernel() (*Kernel, error) {
	if !o.HasKernel() {
		return nil, fault.New(fault.BadInput, "%s: the build has no kernel: BR2_LINUX_KERNEL is not set", o.ConfigFile)
	}
	k := &Kernel{}
	trees, overlays, err := o.deviceTrees()
	if err != nil {
		return nil, err
	}
	if k.Image, err = o.kernelImage(trees); err != nil {
		return nil, err
	}
	if err := o.placeTrees(k, trees, overlays); err != nil {
		return nil, err
	}
	return k, o.release(k)
}

// imageNames are the names of the kernel's image by the option of its form (linux/linux.mk).
var imageNames = []struct{ option, name string }{
	{"UIMAGE", "uImage"}, {"APPENDED_UIMAGE", "uImage"}, {"BZIMAGE", "bzImage"}, {"ZIMAGE", "zImage"}, {"ZIMAGE_EPAPR", "zImage.epapr"},
	{"APPENDED_ZIMAGE", "zImage"}, {"CUIMAGE", "cuImage."}, {"SIMPLEIMAGE", "simpleImage."}, {"IMAGE", "Image"}, {"IMAGEGZ", "Image.gz"},
	{"LINUX_BIN", "linux.bin"}, {"VMLINUX_BIN", "vmlinux.bin"}, {"VMLINUX_EFI", "vmlinux.efi"}, {"VMLINUX", "vmlinux"},
	{"VMLINUZ", "vmlinuz"}, {"VMLINUZ_BIN", "vmlinuz.bin"}, {"VMLINUZ_EFI", "vmlinuz.efi"},
}

// kernelImage returns the kernel's image. trees are the names of its device trees.
func (o *Output) kernelImage(trees []string) (string, error) {
	const prefix = "BR2_LINUX_KERNEL_"
	if custom := prefix + "IMAGE_TARGET_CUSTOM"; o.Enabled(custom) {
		for _, option := range []string{prefix + "IMAGE_NAME", prefix + "IMAGE_TARGET_NAME"} {
			name, err := o.Value(option)
			if err != nil {
				return "", err
			}
			if name != "" {
				return o.Image(path.Base(name), option)
			}
		}
		return "", fault.New(fault.BadInput, "%s: %sIMAGE_TARGET_NAME is empty, which says what the kernel's image is called", o.ConfigFile, prefix)
	}
	for _, i := range imageNames {
		if !o.Enabled(prefix + i.option) {
			continue
		}
		name := i.name
		if o.Enabled(prefix+"APPENDED_DTB") || strings.HasSuffix(name, ".") {
			if len(trees) != 1 {
				return "", fault.New(fault.Unsupported, "%s: %s makes one image for each of %d device trees, and a BSP has one: want one in BR2_LINUX_KERNEL_INTREE_DTS_NAME",
					o.ConfigFile, prefix+i.option, len(trees))
			}
			name = strings.TrimSuffix(name, ".") + "." + path.Base(trees[0])
		}
		return o.Image(name, prefix+i.option)
	}
	return "", fault.New(fault.Unsupported, "%s: none of the options says which form the kernel's image has: BR2_LINUX_KERNEL_IMAGE and the like", o.ConfigFile)
}

// deviceTrees returns the names of device trees and overlays, without their endings.
func (o *Output) deviceTrees() (trees, overlays []string, err error) {
	if !o.Enabled("BR2_LINUX_KERNEL_DTS_SUPPORT") {
		return nil, nil, nil
	}
	if trees, err = o.words("BR2_LINUX_KERNEL_INTREE_DTS_NAME"); err != nil {
		return nil, nil, err
	}
	if overlays, err = o.words("BR2_LINUX_KERNEL_INTREE_DTSO_NAMES"); err != nil {
		return nil, nil, err
	}
	// Only the names count, so that variables of make in front of them do not matter.
	for _, file := range strings.Fields(o.Raw("BR2_LINUX_KERNEL_CUSTOM_DTS_PATH")) {
		base := path.Base(file)
		if strings.ContainsAny(base, "*?[$()") {
			return nil, nil, fault.New(fault.Unsupported, "%s: BR2_LINUX_KERNEL_CUSTOM_DTS_PATH has %q: name each file", o.ConfigFile, file)
		}
		switch name, ext := strings.TrimSuffix(base, path.Ext(base)), path.Ext(base); ext {
		case ".dts":
			trees = append(trees, name)
		case ".dtso":
			overlays = append(overlays, name)
		}
	}
	if dir := o.Raw("BR2_LINUX_KERNEL_CUSTOM_DTS_DIR"); strings.TrimSpace(dir) != "" {
		return nil, nil, fault.New(fault.Unsupported, "%s: BR2_LINUX_KERNEL_CUSTOM_DTS_DIR: which device trees are in %s is known to Buildroot alone: name them in BR2_LINUX_KERNEL_CUSTOM_DTS_PATH",
			o.ConfigFile, dir)
	}
	return trees, overlays, nil
}

// placeTrees finds the device trees. Those that are appended to the image are part of it.
func (o *Output) placeTrees(k *Kernel, trees, overlays []string) error {
	if o.Enabled("BR2_LINUX_KERNEL_APPENDED_DTB") || o.Enabled("BR2_LINUX_KERNEL_DTB_IS_SELF_BUILT") {
		return nil
	}
	for _, list := range []struct {
		names     []string
		ext, from string
		to        *[]DeviceTree
	}{{trees, ".dtb", "BR2_LINUX_KERNEL_INTREE_DTS_NAME", &k.Trees}, {overlays, ".dtbo", "BR2_LINUX_KERNEL_INTREE_DTSO_NAMES", &k.Overlays}} {
		for _, name := range list.names {
			installed := path.Base(name) + list.ext
			if o.Enabled("BR2_LINUX_KERNEL_DTB_KEEP_DIRNAME") {
				installed = name + list.ext
			}
			file, err := o.Image(installed, list.from)
			if err != nil {
				return err
			}
			if !fs.ValidPath(name) {
				return fault.New(fault.BadInput, "%s: %s: %q is not the name of a device tree", o.ConfigFile, list.from, name)
			}
			*list.to = append(*list.to, DeviceTree{name + list.ext, file})
		}
	}
	return nil
}

// maxRelease bounds a file with the release of a kernel, in bytes.
const maxRelease = 4 << 10

// release finds the kernel's release, configuration and modules.
func (o *Output) release(k *Kernel) error {
	dir, err := o.kernelDir()
	if err != nil {
		return err
	}
	if config := filepath.Join(dir, ".config"); o.exists(config) {
		k.Config = filepath.Join(o.Dir, config)
	}
	if file := filepath.Join(dir, "include/config/kernel.release"); o.exists(file) {
		text, err := bounded.ReadRegular(filepath.Join(o.Dir, file), maxRelease)
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading the kernel's release")
		}
		k.Release = strings.TrimSpace(string(text))
	}
	return o.modules(k)
}

// overridden matches the variable with which a kernel is compiled from a directory of the user.
var overridden = regexp.MustCompile(`(?m)^\s*LINUX_OVERRIDE_SRCDIR\s*[:?]?=`)

// kernelDir returns the directory of the kernel's build, below the output.
func (o *Output) kernelDir() (string, error) {
	version, err := o.Value("BR2_LINUX_KERNEL_VERSION")
	if err != nil {
		return "", err
	}
	override := strings.ReplaceAll(o.Raw("BR2_PACKAGE_OVERRIDE_FILE"), "$(CONFIG_DIR)", filepath.Dir(o.ConfigFile))
	if text, err := bounded.ReadRegular(override, maxConfig); err == nil && overridden.Match(text) {
		version = "custom"
	}
	// pkg-generic.mk, sanitize
	version = strings.NewReplacer("/", "_", " ", "_", ":", "_").Replace(version)
	dir := filepath.Join("build", "linux-"+version)
	if custom := "build/linux-custom"; !o.exists(dir) && o.exists(custom) { // of a file that the override file includes
		dir = custom
	}
	return dir, nil
}

// modules finds the modules in the root file system, of which there must be those of one kernel.
func (o *Output) modules(k *Kernel) error {
	const place = "target/lib/modules"
	if !o.exists(place) {
		return nil
	}
	dir := filepath.Join(o.Dir, place)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the kernel's modules")
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() {
			found = append(found, e.Name())
		}
	}
	switch {
	case len(found) == 0:
		return nil
	case len(found) > 1:
		return fault.New(fault.BadInput, "%s has the modules of %d kernels, %s: those of earlier builds stay until target/ is made again (make clean)",
			dir, len(found), strings.Join(found, ", "))
	case k.Release != "" && !slices.Contains(found, k.Release):
		return fault.New(fault.BadInput, "%s has the modules of %s, and the kernel is %s: make target/ again (make clean)", dir, found[0], k.Release)
	}
	k.Release, k.Modules = found[0], dir
	return nil
}

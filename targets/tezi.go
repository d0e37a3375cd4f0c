package targets

import (
	"fmt"
	"regexp"
	"slices"
)

// Tezi is a bundle for the Toradex Easy Installer, which makes partitions and file systems
// itself. Their names and roles are those of the target's image.
type Tezi struct {
	// Modules are what the bundle can be installed on.
	Modules []TeziModule `yaml:"modules" json:"modules"`
}

// TeziModule is a kind of modules that are installed in the same way.
type TeziModule struct {
	// Name is that in image-NAME.json and uEnv.NAME.txt, for example colibri-imx6dl.
	Name string `yaml:"name" json:"name"`
	// Products are Toradex's product numbers, for example "0014".
	Products []string `yaml:"products" json:"products"`
	// Flash is emmc, or nand for raw flash with UBI. Default: emmc.
	Flash string `yaml:"flash,omitempty" json:"flash,omitempty" jsonschema:"enum=emmc,enum=nand"`
	// Volume is the name of the storage's UBI volume on raw flash. Default: boot.
	Volume string `yaml:"volume,omitempty" json:"volume,omitempty"`
	// Blobs are the stages of the boot loader: at a sector or an offset of the eMMC's boot
	// area, or in a partition of the raw flash.
	Blobs []Blob `yaml:"blobs,omitempty" json:"blobs,omitempty"`
	// Environment are lines of uEnv.NAME.txt, U-Boot's variables that the installer sets. A line
	// that begins with '#' is an example for people.
	Environment []string `yaml:"environment,omitempty" json:"environment,omitempty"`
}

// NAND reports whether the modules have raw flash.
func (m TeziModule) NAND() bool { return m.Flash == "nand" }

var (
	productForm  = regexp.MustCompile(`^[0-9]{4}$`)
	variableForm = regexp.MustCompile(`^#|^[A-Za-z_][A-Za-z0-9_]*=[ -~]*$`)
)

func (r checker) tezi(t *Target) {
	if t.Tezi == nil {
		return
	}
	if t.Partition("root") == nil || t.Bootloader == nil || t.Kernel == nil {
		r.Wrong("tezi", "has nothing to install: the target needs a kernel, a bootloader and an image with a root partition")
	}
	if len(t.Tezi.Modules) == 0 {
		r.Wrong("tezi.modules", "is empty: name the modules that the bundle is for")
	}
	for i, m := range t.Tezi.Modules {
		at := fmt.Sprintf("tezi.modules[%d]", i)
		r.Form(at+".name", m.Name, nameForm)
		if slices.IndexFunc(t.Tezi.Modules, func(o TeziModule) bool { return o.Name == m.Name }) < i {
			r.Wrong(at+".name", "%q is there twice", m.Name)
		}
		if len(m.Products) == 0 {
			r.Wrong(at+".products", "is empty: the installer offers an image to the modules that it names")
		}
		r.List(at+".products", m.Products, productForm)
		r.List(at+".environment", m.Environment, variableForm)
		if m.Volume != "" {
			r.Form(at+".volume", m.Volume, labelForm)
		}
		for j, b := range m.Blobs {
			r.teziBlob(fmt.Sprintf("%s.blobs[%d]", at, j), b, m.NAND())
		}
	}
}

// teziBlob checks that a stage of the boot loader has the place that its flash has.
func (r checker) teziBlob(at string, b Blob, nand bool) {
	r.Form(at+".name", b.Name, nameForm)
	if (b.File == "") == (b.Part == "") {
		r.Wrong(at, "want one of file and part")
	}
	if b.Skip != 0 || b.Length != 0 {
		r.Wrong(at, "skip and length are not supported here: the installer writes whole files")
	}
	switch {
	case nand && (b.Partition == "" || b.Sector != nil || b.Offset != nil):
		r.Wrong(at, "want partition, that of the raw flash")
	case !nand && (b.Partition != "" || (b.Sector == nil) == (b.Offset == nil)):
		r.Wrong(at, "want one of sector and offset, in the boot area of the eMMC")
	case b.Where()%Sector != 0:
		r.Wrong(at+".offset", "%s is not a multiple of a sector, %s", b.Where(), Sector)
	}
}

// teziParts lists the named parts of the bundle.
func (t *Target) teziParts() []string {
	if t.Tezi == nil {
		return nil
	}
	var out []string
	for _, m := range t.Tezi.Modules {
		for _, b := range m.Blobs {
			if b.Part != "" {
				out = append(out, b.Part)
			}
		}
	}
	return out
}

// rootfs checks that there is a storage that can be booted.
func (r checker) rootfs(t *Target) {
	if t.Rootfs && (t.Kernel == nil || t.Bootloader == nil) {
		r.Wrong("rootfs", "cannot boot: the target needs a kernel and a bootloader")
	}
}

// HasStorage reports whether the target makes a revision 0.
func (t *Target) HasStorage() bool { return t.Images != nil || t.AppEngine != nil || t.Rootfs }

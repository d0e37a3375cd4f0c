package targets

import (
	"encoding"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Budgets are the most that things of a target may take. What exceeds its budget fails the build,
// before anything is made of it. A field that is not there has no limit.
type Budgets struct {
	// inherited is set for those of a base, or of the target that a build is of, which may have
	// what this one has not: these do not count then.
	inherited bool
	// build is the build that they are of; "" for a target.
	build string
	// Image is for the blocks of a medium that are in use, of each image.
	Image Size `yaml:"image,omitempty" json:"image,omitempty"`
	// Compressed is for the image in its compressed form.
	Compressed Size `yaml:"compressed,omitempty" json:"compressed,omitempty"`
	// Partitions are for the blocks in use in partitions, by their names.
	Partitions map[string]Size `yaml:"partitions,omitempty" json:"partitions,omitempty"`
	// Initrd is for the base initrd, compressed.
	Initrd Size `yaml:"initrd,omitempty" json:"initrd,omitempty"`
	// Binary is for the device binary, as it is executed.
	Binary Size `yaml:"binary,omitempty" json:"binary,omitempty"`
	// BSP is for the part bsp of the revision: all its objects.
	BSP Size `yaml:"bsp,omitempty" json:"bsp,omitempty"`
	// Parts are for files of the BSP, kernel, modules, firmware and addons by their names, and for
	// named parts of the target.
	Parts map[string]Size `yaml:"parts,omitempty" json:"parts,omitempty"`
	// Containers are for the objects of containers, by their names.
	Containers map[string]Size `yaml:"containers,omitempty" json:"containers,omitempty"`
	// BootTime is how many seconds the emulated device may need until all containers have
	// reached their goals; mage run checks it.
	BootTime int `yaml:"boot_time,omitempty" json:"boot_time,omitempty" jsonschema:"minimum=1,maximum=3600"`
	// Memory is how much memory may be in use at that moment; mage run checks it.
	Memory Size `yaml:"memory,omitempty" json:"memory,omitempty"`
	// Growth is how much larger than in targets/TARGET/sizes.json each of them may be, in percent
	// such as 5%: image, partitions, initrd, device binary, BSP, its files and containers. Without that
	// file it limits nothing.
	Growth *Percent `yaml:"growth,omitempty" json:"growth,omitempty"`
}

// Percent is a part of a whole in hundredths. In a file it is a number with its sign: 5%.
type Percent int

var _ encoding.TextUnmarshaler = (*Percent)(nil)

// UnmarshalText reads the form of files.
func (p *Percent) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "%")
	n, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil || n > 1000 {
		return fault.New(fault.BadInput, "%q is not a percentage: want a whole number from 0%% to 1000%%", text)
	}
	*p = Percent(n)
	return nil
}

// MarshalJSON encodes the form of files.
func (p Percent) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, fmt.Sprintf("%d%%", int(p))), nil
}

// inherit marks the budgets as those of another target.
func (t *Target) inherit() {
	if t.Budgets != nil {
		b := *t.Budgets
		b.inherited = true
		t.Budgets = &b
	}
}

// SizesName is the file beside that of a target that has the sizes of its last release, with the
// name of a build for one.
func (t *Target) SizesName() string {
	return "sizes" + strings.TrimPrefix(t.Name, t.Definition) + ".json"
}

// BSPParts are the names of files of the BSP in budgets.
func (t *Target) BSPParts() []string {
	if t.Kernel == nil {
		return nil
	}
	out := []string{"kernel", "modules"}
	if t.Kernel.Firmware != nil {
		out = append(out, "firmware")
	}
	for _, a := range t.Addons {
		out = append(out, a.Name)
	}
	return out
}

// budgets checks that there is what budgets are for.
func (r checker) budgets(t *Target) {
	b := t.Budgets
	top := "budgets."
	if b.build != "" {
		top = "builds." + b.build + "." + top
	}
	for field, size := range map[string]Size{
		"image": b.Image, "compressed": b.Compressed, "initrd": b.Initrd, "binary": b.Binary, "bsp": b.BSP, "memory": b.Memory,
	} {
		if at := top + field; size == 0 && r.Given(at) {
			r.Wrong(at, "0 leaves room for nothing; without a limit leave the field out")
		}
	}
	var partitions, compressed []string
	for _, im := range t.Images {
		for _, p := range im.Partitions {
			partitions = append(partitions, p.Name)
		}
		if im.Compress != "" {
			compressed = append(compressed, im.Compress)
		}
	}
	r.named(top+"partitions", "partition", b.Partitions, partitions)
	r.named(top+"parts", "part", b.Parts, append(t.BSPParts(), slices.Sorted(maps.Keys(t.Parts))...))
	r.named(top+"containers", "container", b.Containers, t.Containers)
	for _, need := range []struct {
		field string
		has   bool
		lack  string
	}{
		{"image", len(t.Images) > 0, "the target makes no image"},
		{"compressed", len(compressed) > 0, "no image has a compressed form: image.compress adds one"},
		{"initrd", t.Kernel != nil, "the target has no kernel, and so no initrd"},
		{"bsp", t.Kernel != nil, "the target has no kernel, and so no BSP"},
		{"boot_time", len(t.Emulators) > 0, "is measured in the emulator, and the target has none"},
		{"memory", len(t.Emulators) > 0, "is measured in the emulator, and the target has none"},
	} {
		if at := top + need.field; r.Given(at) && !need.has {
			r.Wrong(at, "%s", need.lack)
		}
	}
}

// named checks the budgets of a field, by its path, whose keys are names.
func (r checker) named(field, what string, limits map[string]Size, known []string) {
	for name, size := range limits {
		at := field + "." + name
		switch {
		case !slices.Contains(known, name):
			r.Wrong(at, "%v", spelling.Unknown(what, name, known))
		case size == 0:
			r.Wrong(at, "0 leaves room for nothing; without a limit leave the field out")
		}
	}
}

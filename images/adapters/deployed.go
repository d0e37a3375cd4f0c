package adapters

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/deploydir"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Deployed says what to take from the deploy directory of a build without the layer.
type Deployed struct {
	// Dir is DEPLOY_DIR_IMAGE, Machine is MACHINE.
	Dir, Machine string
	// Images are the images, by the names of their recipes, whose root file systems become
	// containers. The first one also says what the kernel's files are called.
	Images []string
	// Type is the type in IMAGE_FSTYPES of the root file systems. Default: the only one that is
	// read.
	Type string
	// Parts are what is taken: kernel, containers. Default: both.
	Parts []string
	// With, Layout, Size and Target are those of [yoctoList]. Default for the target: the
	// machine.
	With, Layout, Target string
	Size                 int
	// Outputs are those of the list of inputs. Default: image, export and revision.
	Outputs []string
	// Epoch is the time of the firmware. Default: that of the first image.
	Epoch int64
}

// list finds the files and describes them as the layer does.
func (o *Deployed) list() (*yoctoList, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the deploy directory")
	}
	if len(o.Images) == 0 || o.Machine == "" {
		return nil, fault.New(fault.BadInput, "name the image and the machine: --image NAME --machine MACHINE")
	}
	y := &yoctoList{Spec: yoctoSpec, Target: o.Target, Machine: o.Machine, Deploy: dir, Outputs: o.Outputs, With: o.With, Layout: o.Layout, Size: o.Size, Epoch: o.Epoch}
	if y.Target == "" {
		y.Target = strings.ToLower(o.Machine)
	}
	if len(y.Outputs) == 0 {
		y.Outputs = []string{"image", "export", "revision"}
	}
	for _, p := range o.Parts {
		if !slices.Contains([]string{"kernel", "containers"}, p) {
			return nil, fault.New(fault.BadInput, "part %q: want kernel or containers", p)
		}
	}
	for i, name := range o.Images {
		image, err := deploydir.Find(dir, name, o.Machine)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if err := o.first(y, image); err != nil {
				return nil, err
			}
		}
		if o.takes("containers") {
			if err := o.container(y, name, image); err != nil {
				return nil, err
			}
		}
	}
	return y, nil
}

func (o *Deployed) takes(part string) bool {
	return len(o.Parts) == 0 || slices.Contains(o.Parts, part)
}

// first takes what all images have in common from the first one.
func (o *Deployed) first(y *yoctoList, image *deploydir.Image) error {
	y.Arch, y.Tune = image.Var("TARGET_ARCH"), image.Var("TUNE_FEATURES")
	y.Release, y.Features = "", image.Var("PANTAVISOR_FEATURES")
	if y.Epoch == 0 {
		var err error
		if y.Epoch, err = image.Epoch(); err != nil {
			return err
		}
	}
	if !o.takes("kernel") {
		return nil
	}
	k, err := image.Kernel()
	if err != nil {
		return err
	}
	y.Kernel = &yoctoKernel{
		Image: k.Image, Modules: k.Modules, Subdir: image.Var("KERNEL_DEPLOYSUBDIR"), Initial: image.Var("PV_INITIAL_DTB"), Auto: image.Var("PV_UBOOT_AUTOFDT"),
		Flat: image.Var("PV_UBOOT_FLATFDT"), Arguments: image.Var("PV_BOOT_OEMARGS"), Early: image.Var("PV_EARLY_MODULES"),
	}
	if k.Modules == "" {
		if y.Kernel.Release, err = image.Release(); err != nil {
			return err
		}
	}
	var names []string
	for _, t := range k.Trees {
		names = append(names, t.Name)
	}
	y.Kernel.DeviceTrees = strings.Join(append(names, k.Passed...), " ")
	return nil
}

func (o *Deployed) container(y *yoctoList, name string, image *deploydir.Image) error {
	root, kind, err := image.Root(o.Type)
	if err != nil {
		return err
	}
	y.Containers = append(y.Containers, yoctoContainer{
		Name: name, Root: root, Type: kind, Group: image.Var("PVR_APP_ADD_GROUP"), Roles: image.Var("PVR_APP_ADD_ROLES"),
		Add: image.Var("PVR_APP_ADD_EXTRA_ARGS"), Format: image.Var("PVR_FORMAT_OPTS"),
	})
	sbom, err := image.SBOM()
	if sbom != "" {
		y.SBOM = append(y.SBOM, sbom)
	}
	return err
}

// FromDeployed makes the list of inputs from a deploy directory.
func FromDeployed(o Deployed) (*Made, error) {
	y, err := o.list()
	if err != nil {
		return nil, err
	}
	return y.made(o.Dir)
}

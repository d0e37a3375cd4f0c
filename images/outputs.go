package images

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/media"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Output is one thing that can be composed.
type Output string

// The outputs.
const (
	OutputExport    Output = "export"    // the BSP as an export; takes Kernel
	OutputRevision  Output = "revision"  // revision 0 as an export
	OutputImage     Output = "image"     // the medium with its block map; takes Layout and Loader
	OutputInstaller Output = "installer" // the medium that installs the image; takes Installer too
	OutputRootfs    Output = "rootfs"    // the storage as an archive; takes Kernel and Loader
	OutputTezi      Output = "tezi"      // the bundle for the Toradex Easy Installer; takes Tezi too
	OutputAppEngine Output = "appengine" // the package for an existing Linux system
)

// output is an entry of the table.
type output struct {
	name Output
	// component is the component target that makes it.
	component string
	// needs are what the inputs must have.
	needs []need
	// compose makes its artefacts, the main one first.
	compose func(c *composer) ([]build.Artefact, error)
}

// need is a part of the inputs that an output needs.
type need struct {
	given func(in *Inputs) bool
	lack  string // the error without it
}

var (
	needKernel    = need{func(in *Inputs) bool { return in.Kernel != nil }, "there is no kernel"}
	needLayout    = need{func(in *Inputs) bool { return len(in.Layouts) > 0 }, "there is no layout"}
	needInstaller = need{func(in *Inputs) bool { return in.Installer != nil }, "there is no installer"}
	needTezi      = need{func(in *Inputs) bool { return in.Tezi != nil }, "there are no modules for the Easy Installer"}
)

// outputs are the outputs in the order of their artefacts. To add one, add its name, an
// entry here, and to package resolve which targets want it.
var outputs = []output{
	{OutputExport, "bsp", []need{needKernel}, (*composer).export},
	{OutputRevision, "trail", nil, (*composer).revision},
	{OutputImage, "image", []need{needLayout}, (*composer).image},
	{OutputInstaller, "image", []need{needKernel, needLayout, needInstaller}, (*composer).installer},
	{OutputRootfs, "image", []need{needKernel}, (*composer).rootfs},
	{OutputTezi, "image", []need{needKernel, needLayout, needTezi}, (*composer).tezi},
	{OutputAppEngine, "image", nil, (*composer).appEngine},
}

// check checks that the inputs suffice for the outputs.
func (in *Inputs) check() error {
	for _, name := range in.Outputs {
		i := slices.IndexFunc(outputs, func(o output) bool { return o.name == name })
		if i < 0 {
			return fault.New(fault.BadInput, "output %q: want %s", name, outputNames())
		}
		for _, n := range outputs[i].needs {
			if !n.given(in) {
				return fault.New(fault.BadInput, "output %s: %s", name, n.lack)
			}
		}
	}
	return nil
}

func outputNames() string {
	var out []string
	for _, o := range outputs {
		out = append(out, string(o.name))
	}
	return strings.Join(out, ", ")
}

func (c *composer) export() ([]build.Artefact, error) {
	step := &Export{Epoch: c.in.Epoch, Part: c.bsp, SBOM: c.in.SBOMOf(c.bsp)}
	return []build.Artefact{{Step: step, From: exportFile, To: c.in.Target + ".pvr.tgz"}}, nil
}

func (c *composer) revision() ([]build.Artefact, error) {
	step := &RevisionExport{Epoch: c.in.Epoch, Storage: c.trail()}
	return []build.Artefact{{Step: step, From: exportFile, To: c.in.Target + "-revision.pvr.tgz"}}, nil
}

func (c *composer) image() ([]build.Artefact, error) {
	in := c.in
	var out []build.Artefact
	for _, l := range in.Layouts {
		if ubiPartition(l) != nil {
			out = append(out, c.nand(l)...)
			continue
		}
		medium := l
		medium.Compress, medium.QCOW2 = "", false // which do not change the image
		disk := &Disk{
			Target: in.Target, Layout: medium, Epoch: in.Epoch, Config: in.Config.Image, Files: in.Loader.Files, Storage: c.trail(),
		}
		if err := disk.fits(); err != nil { // before any step runs
			return nil, err
		}
		name := cmp.Or(l.File, fmt.Sprintf("%s-pv-%dMiB.img", in.Target, l.Size))
		out = append(out, build.Artefact{Step: disk, From: DiskFile, To: name})
		if l.Table != flashTable { // of which all bytes matter
			out = append(out, build.Artefact{Step: disk, From: BmapFile, To: name + ".bmap"})
		}
		out = append(out, c.forms(l, disk, name)...)
	}
	return out, nil
}

// nand makes the parts of raw NAND flash, which a board's flasher writes one by one: such a
// medium has bad blocks and no image of the whole.
func (c *composer) nand(l Layout) []build.Artefact {
	name := cmp.Or(l.File, c.in.Target+".ubi")
	step := &UBI{Target: c.in.Target, Layout: l, Epoch: c.in.Epoch, Storage: c.trail()}
	step.Layout.Blobs = nil
	out := []build.Artefact{{Step: step, From: FlashFile, To: name}, {Step: step, From: VolumeFile, To: ubiPartition(l).Name + ".ubifs"}}
	for _, b := range l.Blobs {
		out = append(out, build.Artefact{Step: b.File.Step, From: b.File.File, To: b.Name + ".bin"})
	}
	return out
}

// forms makes the further forms of an image that a layout wants.
func (c *composer) forms(l Layout, disk build.Step, name string) []build.Artefact {
	var out []build.Artefact
	image := media.File{Step: disk, Path: DiskFile}
	if l.Compress != "" {
		step := &media.Compressed{Form: l.Compress, Image: image}
		out = append(out, build.Artefact{Step: step, From: media.CompressedFile, To: name + "." + l.Compress})
	}
	if l.QCOW2 {
		out = append(out, build.Artefact{Step: &media.QCOW2{Image: image}, From: media.QCOW2File, To: strings.TrimSuffix(name, ".img") + ".qcow2"})
	}
	return out
}

func (c *composer) appEngine() ([]build.Artefact, error) {
	files, err := packagedDigest()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "reading the files of every App Engine package")
	}
	in := c.in
	step := &AppEngine{
		Target: in.Target, Release: in.Release, Packages: in.Packages, Config: in.Config.Runtime, Defaults: in.Config.Defaults,
		Skel: in.Config.Skel, Trust: trustOf(in), Epoch: in.Epoch, Packaged: files, Program: in.Runtime, Storage: c.trail(),
	}
	return []build.Artefact{{Step: step, From: appEngineFile, To: in.Target + ".tgz"}}, nil
}

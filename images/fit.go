package images

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/fit"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// FITForm says how kernel, initrd and device trees are joined in a FIT.
type FITForm struct {
	// Arch is U-Boot's name of the CPU.
	Arch string `json:"arch"`
	// Kernel is the address that the kernel is started at.
	Kernel uint64 `json:"kernel"`
}

// FIT is the step that joins kernel, initrd and device trees in one file for U-Boot, with a
// configuration for each device tree, the first as default. Its output is "pantavisor.fit".
type FIT struct {
	FITForm
	// Target is the name of the target.
	Target string
	// Epoch is the time in the file.
	Epoch build.Stamp
	// Image is the kernel, Initrd its archives in the order of loading.
	Image  Artefact     `json:"-"`
	Initrd []Artefact   `json:"-"`
	Trees  []DeviceTree `json:"-"`
}

// fitName is the name of the file, in the BSP too.
const fitName = "pantavisor.fit"

// fitHash is the check of what is loaded that each U-Boot with FITs knows; Debian's for
// Raspberry Pi and Odroid do not know SHA-256, and start nothing that they cannot check.
const fitHash = "crc32"

var (
	_ build.Step      = (*FIT)(nil)
	_ build.Versioned = (*FIT)(nil)
	_ build.Replacing = (*FIT)(nil)
)

// Name of the step.
func (s *FIT) Name() string { return "bsp/fit" }

// Version of the step's logic.
func (s *FIT) Version() int { return 1 }

// Deps are the steps of all contents.
func (s *FIT) Deps() []build.Step {
	out := append([]build.Step{s.Image.Step}, stepsOf(s.Initrd)...)
	for _, d := range s.Trees {
		out = append(out, d.From.Step)
	}
	return out
}

// Replaces lists the files of the initrd that addons replace.
func (s *FIT) Replaces(ctx context.Context, in func(build.Step) string) ([]build.Replacement, error) {
	return replacedByAddons(ctx, in, stepsOf(s.Initrd))
}

// Run writes the file.
func (s *FIT) Run(ctx context.Context, w *build.Work) error {
	f := fit.File{Description: "Pantavisor for " + s.Target, Time: uint32(s.Epoch.Time().Unix()), Hash: fitHash}
	if err := s.images(w, &f); err != nil {
		return fault.Wrap(fault.IO, err, "making %s", fitName)
	}
	s.configurations(&f)
	out, err := os.Create(filepath.Join(w.Out, fitName))
	if err != nil {
		return fault.Wrap(fault.IO, err, "making %s", fitName)
	}
	defer out.Close()
	if err := fit.Write(ctx, out, f); err != nil {
		return fault.Wrap(fault.BadInput, err, "making %s", fitName)
	}
	return fault.Wrap(fault.IO, out.Close(), "making %s", fitName)
}

// Names of the two images that each configuration has.
const (
	fitKernel = "kernel-1"
	fitInitrd = "ramdisk-1"
)

// images adds the contents.
func (s *FIT) images(w *build.Work, f *fit.File) error {
	add := func(m fit.Image, parts ...Artefact) error {
		m.Arch, m.Compression = s.Arch, "none"
		content, err := joined(w, parts)
		m.Size, m.Open = content.size, content.open
		f.Images = append(f.Images, m)
		return err
	}
	if err := add(fit.Image{Name: fitKernel, Description: "Linux", Type: "kernel", OS: "linux", Load: s.Kernel}, s.Image); err != nil {
		return err
	}
	if err := add(fit.Image{Name: fitInitrd, Description: "initrd", Type: "ramdisk", OS: "linux"}, s.Initrd...); err != nil {
		return err
	}
	for _, d := range s.Trees {
		if err := add(fit.Image{Name: fitTree(d), Description: d.Name, Type: "flat_dt"}, d.From); err != nil {
			return err
		}
	}
	return nil
}

// fitTree is the name of the image of a device tree.
func fitTree(d DeviceTree) string { return "fdt-" + strings.ReplaceAll(d.Name, "/", "_") }

// configurations adds one for each device tree, or one without.
func (s *FIT) configurations(f *fit.File) {
	for _, d := range s.Trees {
		f.Configurations = append(f.Configurations, fit.Configuration{
			Name: fit.ConfigurationName(d.Name), Description: d.Name, Kernel: fitKernel, Ramdisk: fitInitrd,
			Trees: []string{fitTree(d)},
		})
	}
	if len(s.Trees) == 0 {
		f.Configurations = []fit.Configuration{{Name: fit.PlainConfiguration, Description: "the machine's own device tree", Kernel: fitKernel, Ramdisk: fitInitrd}}
	}
}

// join is a content of several files, one behind the other.
type join struct {
	files []string
	size  int64
}

// joined returns the content of the files. Each ends at a multiple of 4, where the kernel
// looks for the next archive of an initrd.
func joined(w *build.Work, parts []Artefact) (*join, error) {
	j := &join{}
	for i, p := range parts {
		info, err := os.Stat(p.in(w))
		if err != nil {
			return j, err
		}
		if j.size%4 != 0 && i > 0 {
			return j, fault.New(fault.BadInput, "%s is not a multiple of 4 bytes", filepath.Base(j.files[i-1]))
		}
		j.files = append(j.files, p.in(w))
		j.size += info.Size()
	}
	return j, nil
}

// open opens all files.
func (j *join) open() (io.ReadCloser, error) {
	out := &joinReader{}
	var readers []io.Reader
	for _, name := range j.files {
		f, err := os.Open(name)
		if err != nil {
			_ = out.Close()
			return nil, err
		}
		out.files = append(out.files, f)
		readers = append(readers, f)
	}
	out.Reader = io.MultiReader(readers...)
	return out, nil
}

type joinReader struct {
	io.Reader
	files []*os.File
}

// Close closes the files, which were only read.
func (r *joinReader) Close() error {
	for _, f := range r.files {
		f.Close()
	}
	return nil
}

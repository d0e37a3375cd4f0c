package media

import (
	"context"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/qcow2"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// QCOW2File is the file in the output of a [QCOW2].
const QCOW2File = "disk.qcow2"

// QCOW2 is the step that makes a disk of QEMU from an image.
type QCOW2 struct {
	Image File `json:"-"`
}

var _ build.Step = (*QCOW2)(nil)

// Name is that of the image's step and "qcow2".
func (s *QCOW2) Name() string { return s.Image.Step.Name() + "/qcow2" }

// Deps is the image.
func (s *QCOW2) Deps() []build.Step { return []build.Step{s.Image.Step} }

// Run writes the file.
func (s *QCOW2) Run(ctx context.Context, w *build.Work) error {
	d, err := openDisk(s.Image.in(w))
	if err != nil {
		return err
	}
	defer d.Close()
	out, err := os.Create(filepath.Join(w.Out, QCOW2File))
	if err != nil {
		return fault.Wrap(fault.IO, err, "making the qcow2 image")
	}
	defer out.Close()
	var data []qcow2.Extent
	for _, e := range d.data {
		data = append(data, qcow2.Extent(e))
	}
	if err := qcow2.Write(ctx, out, d, d.size, data); err != nil {
		return fault.Wrap(fault.IO, err, "making the qcow2 image")
	}
	return fault.Wrap(fault.IO, out.Close(), "making the qcow2 image")
}

package workspace

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/targets"
)

// Maker makes single artefacts of one target for callers that need their files: tests and
// benchmarks. Its cache is the user's, so that little is left to do after a build.
type Maker struct {
	Target *targets.Target
	Root   string // the source tree
	job    *job
}

// OpenMaker prepares to make artefacts of a target of the source tree at root. warn takes
// warnings about packages; nil drops them.
func OpenMaker(ctx context.Context, root, target string, warn func(string)) (*Maker, error) {
	w := &Workspace{Root: root, Options: &options.Options{}, Stdout: io.Discard, Stderr: io.Discard}
	t, err := w.load(target)
	if err != nil {
		return nil, err
	}
	j, err := w.builder(t)
	if err != nil {
		return nil, err
	}
	if j.parts, err = w.parts(ctx, j); err != nil {
		return nil, err
	}
	for _, text := range j.Warnings {
		if warn != nil {
			warn(text)
		}
	}
	j.Builder.Target = target + "-test" // its history is not that of mage build
	return &Maker{Target: t, Root: root, job: j}, nil
}

// Image makes the target's image with a debug shell and returns its path, which is
// inside the cache: read only. reference is a .pvr directory with other containers;
// empty takes the target's own.
func (m *Maker) Image(ctx context.Context, reference string) (string, error) {
	return m.output(ctx, images.OutputImage, resolve.Options{Debug: true, MergeSource: reference})
}

// Medium makes what the target is installed from, its image, installation medium or bundle, with
// a debug shell, and returns its path, which is inside the cache: read only.
func (m *Maker) Medium(ctx context.Context) (string, error) {
	o, err := m.medium()
	if err != nil {
		return "", err
	}
	return m.output(ctx, o, resolve.Options{Debug: true})
}

// medium returns which of the target's outputs [Maker.Medium] makes.
func (m *Maker) medium() (images.Output, error) {
	c, err := m.job.compose(resolve.Options{Debug: true})
	if err != nil {
		return "", err
	}
	for _, o := range []images.Output{images.OutputTezi, images.OutputInstaller, images.OutputImage} {
		if len(c.Outputs[o]) > 0 {
			return o, nil
		}
	}
	return "", fmt.Errorf("target %s has no medium", m.Target.Name)
}

// Inputs saves the inputs of what [Maker.Medium] makes in a new directory, with their list.
func (m *Maker) Inputs(ctx context.Context, dir string) error {
	o, err := m.medium()
	if err != nil {
		return err
	}
	m.job.inputs.Outputs = []images.Output{o}
	w := &Workspace{Root: m.Root}
	_, err = w.saveInputs(ctx, m.job, dir)
	return err
}

// Machine returns one of the target's machines with the image of [Maker.Image] and what QEMU
// itself loads. Files that have to be made are put into the directory tmp.
func (m *Maker) Machine(ctx context.Context, e targets.Emulator, tmp string) (emulator.Config, error) {
	image, err := m.Image(ctx, "")
	if err != nil {
		return emulator.Config{}, err
	}
	comp, err := m.job.compose(resolve.Options{Debug: true})
	if err != nil {
		return emulator.Config{}, err
	}
	cfg := emulator.Config{Emulator: e.Complete(), Image: image}
	return cfg, m.job.loads(ctx, m.Target, comp, &cfg, tmp)
}

// ImageOf makes the target's image like [Maker.Image], with the containers and the BSP of
// reference, a .pvr directory.
func (m *Maker) ImageOf(ctx context.Context, reference string) (string, error) {
	return m.output(ctx, images.OutputImage, resolve.Options{Debug: true, MergeSource: reference, UseSourceBSP: true})
}

// BSP makes the export of the target's BSP and returns its path, which is inside the
// cache: read only. With debug it has a debug shell, as [Maker.Image] has.
func (m *Maker) BSP(ctx context.Context, debug bool) (string, error) {
	return m.output(ctx, images.OutputExport, resolve.Options{Debug: debug})
}

// Installer makes the installation medium of a target that is one, with an image as Image
// makes it, and returns its path, which is inside the cache: read only.
func (m *Maker) Installer(ctx context.Context) (string, error) {
	return m.output(ctx, images.OutputInstaller, resolve.Options{Debug: true})
}

// Package makes the target's App Engine package and returns its path, which is
// inside the cache: read only.
func (m *Maker) Package(ctx context.Context) (string, error) {
	return m.output(ctx, images.OutputAppEngine, resolve.Options{})
}

// output makes the main artefact of one of the target's outputs.
func (m *Maker) output(ctx context.Context, o images.Output, options resolve.Options) (string, error) {
	c, err := m.job.compose(options)
	if err != nil {
		return "", err
	}
	made := c.Outputs[o]
	if len(made) == 0 {
		return "", fmt.Errorf("target %s has no output %s", m.Target.Name, o)
	}
	res, err := m.job.Build(ctx, made[0].Step)
	if err != nil {
		return "", err
	}
	return filepath.Join(res.Dir(made[0].Step), filepath.FromSlash(made[0].From)), nil
}

// Reference makes containers that are defined in a directory like containers/ and
// writes them as a .pvr directory at dir.
func (m *Maker) Reference(ctx context.Context, from string, names []string, dir string) error {
	t := *m.Target
	t.Containers = names
	requests := containers.Requests(m.Target, m.job.layers)
	if len(requests) == 0 {
		return fmt.Errorf("target %s takes no packages for containers", t.Name)
	}
	parts, err := containers.Parts(&t, containers.Options{
		Layers: layers.New(layers.Layer{Label: layers.Workspace, Dir: from}), Directory: ".",
		Program: func(_ layers.Layer, pkg string) (containers.Builder, error) {
			return gobinary.ForDevice(m.job.Code, pkg, t.Arch), nil
		},
		Packages: func(name string) (*debian.Fetch, error) { return m.job.parts.Fetch(requests[0], name) },
	})
	if err != nil {
		return err
	}
	steps := make([]build.Step, len(parts))
	for i, p := range parts {
		steps[i] = p
	}
	res, err := m.job.Build(ctx, steps...)
	if err != nil {
		return err
	}
	return writeReference(ctx, dir, steps, res)
}

func writeReference(ctx context.Context, dir string, steps []build.Step, res *build.Result) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all, err := fragment.Create(dir)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := all.Join(ctx, res.Dir(s)); err != nil {
			return err
		}
	}
	return all.Close()
}

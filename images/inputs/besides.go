package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// Besides is what the part of a container has besides its root file system: texts of JSON, "" for
// those that the list does not have, and the keys of its overlay.
type Besides struct {
	Config, Services, MDEV, Network string
	// Overlay are the paths of the files in the overlay.
	Overlay []string
	overlay string
}

// maxBeside bounds such a JSON file, in bytes.
const maxBeside = 1 << 20

// besides reads the files into the step.
func (l *List) besides(s *containerStep) error {
	c := &s.Container
	for _, f := range []struct {
		from *File
		to   *string
	}{{c.Config, &s.Files.Config}, {c.Services, &s.Files.Services}, {c.MDEV, &s.Files.MDEV}, {c.Network, &s.Files.Network}} {
		if f.from == nil {
			continue
		}
		text, err := bounded.ReadRegular(l.place(f.from.Path), maxBeside)
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != f.from.SHA256 {
			return changed(f.from.Path)
		}
		v, err := canon.Parse(text)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "reading %s", f.from.Path)
		}
		if v.Kind() != canon.Object && f.from != c.Services {
			return fault.New(fault.BadInput, "%s is not a JSON object", f.from.Path)
		}
		*f.to = string(text)
	}
	c.Config, c.Services, c.MDEV, c.Network = nil, nil, nil, nil // the texts stand for them
	if c.Overlay == nil {
		return nil
	}
	s.Files.overlay = l.place(c.Overlay.Path)
	c.Overlay = &Directory{SHA256: c.Overlay.SHA256}
	return s.Files.find()
}

// find lists the files of the overlay. A part of a revision has no links and no devices.
func (b *Besides) find() error {
	return filepath.WalkDir(b.overlay, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fault.New(fault.BadInput, "%s: an overlay has regular files and directories only", at)
		}
		name, err := filepath.Rel(b.overlay, at)
		b.Overlay = append(b.Overlay, filepath.ToSlash(name))
		return err
	})
}

func overlayKey(container, name string) string { return "_config/" + container + "/" + name }

// keys are those of the state.
func (b *Besides) keys(container string) []string {
	var out []string
	if b.Services != "" {
		out = append(out, container+"/services.json")
	}
	if b.MDEV != "" {
		out = append(out, container+"/mdev.json")
	}
	for _, name := range b.Overlay {
		out = append(out, overlayKey(container, name))
	}
	return out
}

// networked returns run.json with the network of the list.
func (b *Besides) networked(run canon.Value) (canon.Value, error) {
	if b.Network == "" {
		return run, nil
	}
	v, err := canon.Parse([]byte(b.Network))
	if err != nil {
		return run, err
	}
	return canon.Obj(append(append([]canon.Member(nil), run.Members()...), canon.Member{Name: "network", Value: v})...), nil
}

// beside adds the files to the part.
func (s *containerStep) beside(ctx context.Context, p *fragment.Writer) error {
	for name, text := range map[string]string{"services.json": s.Files.Services, "mdev.json": s.Files.MDEV} {
		if text == "" {
			continue
		}
		if err := p.AddBytes(s.Container.Name+"/"+name, []byte(text)); err != nil {
			return err
		}
	}
	for _, name := range s.Files.Overlay {
		if err := p.AddFile(ctx, overlayKey(s.Container.Name, name), filepath.Join(s.Files.overlay, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	if s.Container.Overlay == nil {
		return nil
	}
	return unchangedTree(s.Files.overlay, s.Container.Overlay.SHA256)
}

// outputContainers is the output with an export of each container of the list.
const outputContainers = "containers"

// containerExports returns the exports of the containers that are made.
func containerExports(in *images.Inputs) []build.Artefact {
	var out []build.Artefact
	for _, c := range in.Containers {
		if part, made := c.Step.(*containerStep); made {
			step := &partExport{Container: part.Container.Name, Epoch: in.Epoch, Part: part, SBOM: in.SBOMOf(part)}
			out = append(out, build.Artefact{Step: step, From: partFile, To: "containers/" + part.Container.Name + ".pvr.tgz"})
		}
	}
	return out
}

// partFile is the file in the output of a partExport.
const partFile = "part.pvr.tgz"

// partExport is the step that packs the part of a container as an export.
type partExport struct {
	Container string
	Epoch     build.Stamp
	Part      build.Step `json:"-"`
	SBOM      build.Step `json:"-"`
}

var _ build.Step = (*partExport)(nil)

// Name is "input/export/" and the container's.
func (s *partExport) Name() string { return "input/export/" + s.Container }

// Deps are the part and its bill of materials.
func (s *partExport) Deps() []build.Step { return []build.Step{s.Part, s.SBOM} }

// Run writes the archive.
func (s *partExport) Run(ctx context.Context, w *build.Work) error {
	return images.ExportPart(ctx, filepath.Join(w.Out, partFile), filepath.Join(w.Tmp, "part"), s.Epoch, w.In(s.Part), w.In(s.SBOM))
}

package grub

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/subst"
)

var _ bootloader.Starter = (*Loader)(nil)

//go:embed start.cfg.tmpl
var startText string

var startTemplate = subst.Must("start.cfg", startText)

// Start returns the step with the files of a boot partition from which GRUB starts a kernel
// and an initrd.
func (l *Loader) Start(kernel, initrd string, arguments []string, k bootloader.Kit) (build.Step, error) {
	s := Settings{Arguments: slices.Concat(l.target.Kernel.Arguments, arguments)}
	if err := s.checkArguments(); err != nil {
		return nil, err
	}
	b, err := startTemplate.Fill(struct {
		Serial                    *serialLine
		Kernel, Initrd, Arguments string
	}{s.serial(), kernel, initrd, s.quoted()})
	if err != nil {
		return nil, fmt.Errorf("writing grub.cfg: %w", err)
	}
	cores, err := l.cores(k)
	return &Start{Config: b, Cores: cores}, err
}

// Start is the step that lays out the files of a boot partition without the handshake's.
type Start struct {
	// Config is the text of grub.cfg.
	Config string
	// Texts are further files by their paths.
	Texts map[string]string `json:",omitempty"`
	// Cores are what UEFI firmware starts.
	Cores []CoreFile
}

var _ build.Step = (*Start)(nil)

// Name is "grub/start".
func (s *Start) Name() string { return "grub/start" }

// Deps are the core images.
func (s *Start) Deps() []build.Step { return stepsOf(s.Cores) }

// Run writes the tree.
func (s *Start) Run(_ context.Context, w *build.Work) error {
	files := map[string][]byte{ConfigFile: []byte(s.Config)}
	for name, text := range s.Texts {
		files[name] = []byte(text)
	}
	return writeBoot(w, s.Cores, files)
}

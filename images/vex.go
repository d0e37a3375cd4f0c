package images

import (
	"context"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// VEXDir is the directory of the results with statements about vulnerabilities.
const VEXDir = "vex"

// Statements is the step that takes files with statements about vulnerabilities (VEX), byte for byte.
// What is not valid is an error of the build: nobody would look at it later.
type Statements struct {
	// Files have the names of the files in the output.
	Files []build.Source
}

var _ build.Step = (*Statements)(nil)

// Name of the step.
func (s *Statements) Name() string { return "image/vex" }

// Deps is empty.
func (s *Statements) Deps() []build.Step { return nil }

// Sources are the files.
func (s *Statements) Sources() ([]build.Source, error) { return s.Files, missing(s.Files) }

// Run checks and copies the files.
func (s *Statements) Run(ctx context.Context, w *build.Work) error {
	for _, f := range s.Files {
		if err := vulns.New().VEX(ctx, f.Path); err != nil {
			return err
		}
		if err := build.CopyFile(ctx, filepath.Join(w.Out, f.Name), f.Path); err != nil {
			return err
		}
	}
	return nil
}

// statements adds the statements about vulnerabilities to the results.
func (c *composer) statements() {
	for _, v := range c.in.VEX {
		c.Artefacts = append(c.Artefacts, build.Artefact{Step: v.From.Step, From: v.From.File, To: VEXDir + "/" + v.Name})
	}
}

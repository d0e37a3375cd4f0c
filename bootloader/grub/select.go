package grub

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/internal/subst"
)

//go:embed select.cfg.tmpl
var selectText string

var selectTemplate = subst.Must("select.cfg", selectText)

// Selector returns the step with the files of a partition from which GRUB starts one of two
// others, as package autoboot describes it. files are programs for UEFI; the first one that is on a
// partition and can be loaded is started. role is that of
// the partition: GRUB is left out where the target itself has the file that UEFI starts.
func (l *Loader) Selector(role string, choice autoboot.Choice, files []string, k bootloader.Kit) (build.Step, error) {
	config, err := l.selectorConfig(files)
	if err != nil {
		return nil, err
	}
	s := &Start{Config: config, Texts: map[string]string{autoboot.FileName: choice.BlockText(), autoboot.OnceFile: autoboot.OnceText(0)}}
	for _, name := range l.target.Bootloader.Packages {
		if p := platforms[name]; p.coreFile == "" || k.Has(role, p.coreFile) {
			continue
		}
		p, modules, err := l.unpack(name, k)
		if err != nil {
			return nil, err
		}
		core := l.core(p, modules, k.Tools)
		core.Modules = append([]string{core.Modules[0]}, selectorModules...)
		s.Cores = append(s.Cores, CoreFile{Path: p.coreFile, Core: core})
	}
	return s, nil
}

// selectorConfig returns grub.cfg.
func (l *Loader) selectorConfig(files []string) (string, error) {
	s, err := l.settings()
	if err != nil {
		return "", err
	}
	if err := s.check(); err != nil {
		return "", err
	}
	b, err := selectTemplate.Fill(struct {
		Serial                      *serialLine
		Timeout                     int
		Once, Auto, Variable, Files string
	}{s.serial(), s.Timeout, autoboot.OnceFile, autoboot.FileName, autoboot.OnceVariable, strings.Join(files, " ")})
	if err != nil {
		return "", fmt.Errorf("writing grub.cfg: %w", err)
	}
	return b, nil
}

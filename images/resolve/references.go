package resolve

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/targets"
)

// References returns the check of what a target's file names in other places: its
// containers, the directories and programs of its addons, and what parts need of each other. What the options make
// unused is not checked.
func References(o Options) targets.Check {
	return func(t *targets.Target, f *yamlfile.File) {
		p := &providers{Options: o, target: t}
		if o.MergeSource == "" {
			p.checkContainers(f)
		}
		if !o.UseSourceBSP {
			p.checkAddons(f)
			p.checkDeclared(f)
		}
	}
}

// checkDeclared checks what the board provides, requires and conflicts with.
func (p *providers) checkDeclared(f *yamlfile.File) {
	t := p.target
	for _, d := range []struct {
		field string
		list  []string
		parse func(string) (compat.Term, error)
	}{{"provides", t.Provides, compat.ParseProvided}, {"requires", t.Requires, compat.Parse}, {"conflicts", t.Conflicts, compat.Parse}} {
		if len(d.list) > 0 && t.Kernel == nil {
			f.Wrong(d.field, "needs a kernel: without one no BSP is made")
		}
		for i, text := range d.list {
			if _, err := d.parse(text); err != nil {
				f.Wrong(fmt.Sprintf("%s[%d]", d.field, i), "%v", err)
			}
		}
	}
}

func (p *providers) checkContainers(f *yamlfile.File) {
	known, err := containers.Names(p.Layers)
	if err != nil {
		f.Wrong("containers", "%v", err)
		return
	}
	for i, name := range p.target.Containers {
		if !slices.Contains(known, name) {
			f.Wrong(fmt.Sprintf("containers[%d]", i), "%v", spelling.Unknown("container", name, known))
		}
	}
}

func (p *providers) checkAddons(f *yamlfile.File) {
	for i, a := range p.target.Addons {
		at := fmt.Sprintf("addons[%d]", i)
		if fs.ValidPath(a.Directory) {
			if place, ok := p.Layers.Find(a.Directory); !ok {
				f.Wrong(at+".directory", "%s does not exist", place.Path)
			}
		}
		if fs.ValidPath(a.Program) {
			if _, err := p.program(p.Layers.Top(), a.Program); err != nil {
				f.Wrong(at+".program", "%v", err)
			}
		}
	}
}

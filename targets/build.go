package targets

import (
	"strings"

	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// Build is a variant of a target. What it leaves out is as in the target.
type Build struct {
	// Description is one line for people.
	Description string `yaml:"description" json:"description"`
	// Kernel replaces that of the target.
	Kernel *Kernel `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// Images replace those of the target.
	Images Images `yaml:"image,omitempty" json:"image,omitempty"`
	// Bootloader replaces that of the target.
	Bootloader *Bootloader `yaml:"bootloader,omitempty" json:"bootloader,omitempty"`
	// Containers replace those of the target.
	Containers []string `yaml:"containers,omitempty" json:"containers,omitempty"`
	// Addons replace those of the target.
	Addons []Addon `yaml:"addons,omitempty" json:"addons,omitempty"`
	// Emulators replace those of the target.
	Emulators Emulators `yaml:"emulator,omitempty" json:"emulator,omitempty"`
	// Budgets replace those of the target.
	Budgets *Budgets `yaml:"budgets,omitempty" json:"budgets,omitempty"`
	// Debug adds a shell on the console.
	Debug bool `yaml:"debug,omitempty" json:"debug,omitempty"`
	// Installer makes the medium that installs the target's image.
	Installer *Installer `yaml:"installer,omitempty" json:"installer,omitempty"`
}

// defaultBuild is the build that a target is itself.
const defaultBuild = "default"

// apply puts the fields of a build in place of the target's.
func (t *Target) apply(b Build) {
	t.Description = b.Description
	if b.Kernel != nil {
		t.Kernel = b.Kernel
	}
	if b.Images != nil {
		t.Images = b.Images
	}
	if b.Bootloader != nil {
		t.Bootloader = b.Bootloader
	}
	if b.Containers != nil {
		t.Containers = b.Containers
	}
	if b.Addons != nil {
		t.Addons = b.Addons
	}
	if b.Emulators != nil {
		t.Emulators, t.EmulatedBy = b.Emulators, ""
	}
	t.inherit()
	if b.Budgets != nil || b.Installer != nil { // an installation medium has another content
		t.Budgets = b.Budgets
	}
	t.Debug = t.Debug || b.Debug
	t.Installer = b.Installer
}

// split returns the definition and the build of a name such as x64-uefi-installer: the
// longest definition that has the build.
func split(names []string, builds map[string][]string, name string) (definition, build string, ok bool) {
	for _, d := range names {
		rest, found := strings.CutPrefix(name, d+"-")
		if !found || len(d) < len(definition) {
			continue
		}
		for _, b := range append(builds[d], defaultBuild) {
			if rest == b {
				definition, build, ok = d, b, true
			}
		}
	}
	return definition, build, ok
}

// choose makes the build of a name the target's.
func (t *Target) choose(f *yamlfile.File, build string) {
	if build == "" || build == defaultBuild {
		return
	}
	t.apply(t.Builds[build])
	if t.Budgets != nil && !t.Budgets.inherited {
		t.Budgets.build = build
	}
	f.Root("builds." + build)
}

// builds checks the names of builds.
func (r checker) builds(t *Target) {
	for name := range t.Builds {
		r.Form("builds."+name, name, nameForm)
		if name == defaultBuild {
			r.Wrong("builds."+name, "is the target itself")
		}
	}
}

package workspace

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/targets"
)

// settings checks the settings of the device that a build is given, by the table of the
// runtime. What the device would pass over is a warning, except for keys that decide about
// security: those are errors.
type settings struct {
	warnings []string
	errs     []error
}

// checkSettings checks the configuration files of a target, the policies, the words of its
// kernel command line and the environment of its containers. environ are the variables of
// the build.
func checkSettings(t *targets.Target, c images.Config, parts []images.Artefact, environ []string) (warnings []string, err error) {
	s := &settings{}
	for _, e := range environ {
		s.variable(e)
	}
	s.file(config.PVConf, c.Runtime.Name, c.Runtime.Path)
	s.file(config.PHConf, c.Hub.Name, c.Hub.Path)
	known := s.policies(c)
	s.chosenPolicy(c, known)
	if t.Kernel != nil {
		for i, word := range t.Kernel.Arguments {
			name, _, _ := strings.Cut(word, "=")
			s.told(fmt.Sprintf("target %s: kernel.arguments[%d]", t.Name, i), name, config.CheckWord(word))
		}
	}
	for _, p := range parts {
		if p, ok := p.Step.(*containers.Part); ok {
			s.environment(p.Definition)
		}
	}
	if err := errors.Join(s.errs...); err != nil {
		return nil, fault.New(fault.BadInput, "configuration of target %q:\n%w", t.Name, err)
	}
	return s.warnings, nil
}

// file checks one file. A file that cannot be read is reported by the step that needs it.
func (s *settings) file(l config.Level, name, file string) {
	data, err := bounded.ReadRegular(file, images.MaxSettings)
	if err != nil {
		return
	}
	seen := map[string]int{}
	for _, line := range config.Lines(string(data)) {
		at := fmt.Sprintf("%s:%d", name, line.Number)
		if !line.OK {
			s.wrong("%s: want NAME=VALUE", at)
			continue
		}
		if before := seen[strings.ToUpper(line.Name)]; before > 0 {
			s.wrong("%s: %s is set in line %d already", at, line.Name, before)
		}
		seen[strings.ToUpper(line.Name)] = line.Number
		s.told(at, line.Name, config.Check(l, line.Name, line.Value))
	}
}

func (s *settings) wrong(format string, args ...any) {
	s.errs = append(s.errs, fault.New(fault.BadInput, format, args...))
}

// told takes what the runtime notes about a setting.
func (s *settings) told(at, name string, notes []string) {
	for _, note := range notes {
		near, security := nearest(name)
		if strings.HasPrefix(note, "unknown key") && len(near) > 0 {
			note += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		if security {
			s.wrong("%s: %s", at, note)
			continue
		}
		s.warnings = append(s.warnings, at+": "+note)
	}
}

// nearest returns the keys that a name may mean, none for a key, and whether it is or
// resembles one that decides about security.
func nearest(name string) (near []string, security bool) {
	if k, ok := config.Lookup(name); ok {
		return nil, k.Security()
	}
	near = spelling.Nearest(strings.ToUpper(name), keyNames())
	security = slices.ContainsFunc(near, func(n string) bool {
		k, _ := config.Lookup(n)
		return k.Security()
	})
	return near, security
}

func keyNames() []string {
	var out []string
	for _, it := range config.New().Items() {
		out = append(out, it.Name)
	}
	return out
}

// policies checks the policy files of the initrd and returns the names of the policies.
func (s *settings) policies(c images.Config) []string {
	files := policyFiles(c)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		s.file(config.Policy, name, files[name])
		out = append(out, strings.TrimSuffix(path.Base(name), ".config"))
	}
	return out
}

// policyFiles returns the policies of the initrd; those of skel replace others.
func policyFiles(c images.Config) map[string]string {
	files := policiesOf(c.Defaults, "policies/")
	if c.Skel != nil {
		maps.Copy(files, policiesOf(*c.Skel, "etc/pantavisor/policies/"))
	}
	return files
}

// policiesOf returns the policy files below a directory of a source, by their names.
func policiesOf(src build.Source, below string) map[string]string {
	out := map[string]string{}
	for _, dir := range src.Dirs() {
		files, _ := filepath.Glob(filepath.Join(dir, below, "*.config"))
		for _, f := range files {
			out[src.Name+"/"+below+filepath.Base(f)] = f
		}
	}
	return out
}

// chosenPolicy checks that the policy that pantavisor.config names is in the initrd: a
// device does not boot without it.
func (s *settings) chosenPolicy(c images.Config, known []string) {
	data, err := bounded.ReadRegular(c.Runtime.Path, images.MaxSettings)
	if err != nil {
		return
	}
	for _, line := range config.Lines(string(data)) {
		k, ok := config.Lookup(line.Name)
		if ok && line.OK && k == config.PolicyName && line.Value != "" && !slices.Contains(known, line.Value) {
			s.errs = append(s.errs, fmt.Errorf("%s:%d: %w", c.Runtime.Name, line.Number, spelling.Unknown("policy", line.Value, known)))
		}
	}
}

// variable warns of a setting of the device in the environment of the build: only the
// runtime's own environment counts.
func (s *settings) variable(e string) {
	name, _, _ := strings.Cut(e, "=")
	if k, ok := config.Lookup(name); ok && strings.EqualFold(k.Name(), name) {
		s.warnings = append(s.warnings, fmt.Sprintf("environment variable %s: has no effect on a build; write it into config/PLATFORM/%s", name, fileOf(k)))
	}
}

// environment checks the PV_ and PH_ words in the environment of a container: the device
// does not read them.
func (s *settings) environment(d *containers.Definition) {
	for i, e := range d.Env {
		name, _, _ := strings.Cut(e, "=")
		if prefix := strings.ToUpper(name[:min(len(name), 3)]); prefix != "PV_" && prefix != "PH_" {
			continue
		}
		note := fmt.Sprintf("unknown key %q", name)
		if k, ok := config.Lookup(name); ok {
			note = fmt.Sprintf("%s is given to the programs of the container, the device does not read it there; write it into config/PLATFORM/%s", name, fileOf(k))
		}
		s.told(fmt.Sprintf("container %s: env[%d]", d.Name, i), name, []string{note})
	}
}

// fileOf returns the name of the configuration file that a key belongs to.
func fileOf(k config.Key) string {
	if strings.HasPrefix(k.Name(), "PH_") {
		return "pantahub.config"
	}
	return "pantavisor.config"
}

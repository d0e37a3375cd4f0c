package targets

import (
	"path"

	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// parse reads a target from YAML, checks it and fills in defaults. The file name is for
// messages; load returns a target by name, for the field base. The error is a fault.BadInput around [yamlfile.Problems], or
// fault.Unsupported when nothing is wrong but values that are not supported yet.
func parse(file, name string, data []byte, load func(base string) (*Target, error), further ...Check) (*Target, error) {
	return parseBuild(file, name, "", data, load, further...)
}

// parseBuild is parse for one build of a target; "" is the target itself.
func parseBuild(file, name, build string, data []byte, load func(base string) (*Target, error), further ...Check) (*Target, error) {
	t := &Target{}
	f, ok := yamlfile.Read(file, kind, data, t)
	if t.Base != "" && ok { // also with mistakes: the checks need what the base has
		base, err := load(t.Base)
		if err != nil {
			f.Wrong("base", "%v", err)
			return nil, f.Err()
		}
		known := base.Parts
		base.Aliases, base.Builds = nil, nil
		base.inherit()
		f, ok = yamlfile.Read(file, kind, data, base)
		t = base
		t.Parts = mergeParts(known, t.Parts)
		if f.Given("emulator") && !f.Given("emulated_by") {
			t.EmulatedBy = "" // that of the base
		}
	}
	t.Name, t.Definition = name, definition(file)
	if ok {
		t.choose(f, build)
		checker{f}.check(t)
		checker{f}.emulatedBy(t, load)
		for _, check := range further {
			check(t, f)
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	t.complete()
	if build != "" && build != defaultBuild {
		t.Name, t.Aliases, t.Builds = name+"-"+build, nil, nil
	}
	return t, nil
}

// definition returns the name of the directory that a target's file is in.
func definition(file string) string { return path.Base(path.Dir(file)) }

var kind = yamlfile.Kind{Name: "a target", Text: CheckValue}

// complete fills in defaults.
func (t *Target) complete() {
	if t.Platform == "" {
		t.Platform = t.Name
	}
	if t.EmulatedBy != "" {
		t.Emulators = nil // those of a base
	}
	for i := range t.Emulators {
		t.Emulators[i] = t.Emulators[i].Complete()
	}
	for i := range t.Images {
		t.Images[i].place()
	}
	if t.Installer != nil {
		t.Installer.complete()
	}
}

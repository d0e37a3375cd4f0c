package targets

import "github.com/pantavisor/pantavisor/internal/yamlfile"

// parse reads a target from YAML, checks it and fills in defaults. The file name is for
// messages; load returns a target by name, for the field base. The error is a fault.BadInput around [yamlfile.Problems], or
// fault.Unsupported when nothing is wrong but values that are not supported yet.
func parse(file, name string, data []byte, load func(base string) (*Target, error), further ...Check) (*Target, error) {
	t := &Target{}
	f, ok := yamlfile.Read(file, kind, data, t)
	if t.Base != "" && f.Err() == nil {
		base, err := load(t.Base)
		if err != nil {
			f.Wrong("base", "%v", err)
			return nil, f.Err()
		}
		f, ok = yamlfile.Read(file, kind, data, base)
		t = base
	}
	t.Name = name
	if ok {
		checker{f}.check(t)
		for _, check := range further {
			check(t, f)
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	t.complete()
	return t, nil
}

var kind = yamlfile.Kind{Name: "a target", Text: checkValue}

// complete fills in defaults.
func (t *Target) complete() {
	if t.Platform == "" {
		t.Platform = t.Name
	}
	for i := range t.Emulators {
		t.Emulators[i] = t.Emulators[i].Complete()
	}
	if t.Image == nil {
		return
	}
	next := 1
	for i := range t.Image.Partitions {
		p := &t.Image.Partitions[i]
		if p.Start == 0 {
			p.Start = next
		}
		next = p.Start + p.Size
	}
}

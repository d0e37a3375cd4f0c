package targets

import "github.com/pantavisor/pantavisor/internal/yamlfile"

// parse reads a target from YAML, checks it and fills in defaults. The file name is for
// messages. The error is a fault.BadInput around [yamlfile.Problems], or
// fault.Unsupported when nothing is wrong but values that are not supported yet.
func parse(file, name string, data []byte) (*Target, error) {
	t := &Target{}
	f, ok := yamlfile.Read(file, yamlfile.Kind{Name: "a target", Text: checkValue}, data, t)
	t.Name = name
	if ok {
		checker{f}.check(t)
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	t.complete()
	return t, nil
}

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

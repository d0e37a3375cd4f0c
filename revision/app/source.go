package app

import (
	"fmt"
	"os"
	"slices"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// Spec is the value of "#spec" in src.json.
const sourceSpec = "service-manifest-src@1"

// order is the order in which src.json has its members; unknown ones follow.
var order = []string{
	"base", "name", "#spec", "template", "args", "dm_enabled", "logs", "exports", "config",
	"docker_name", "docker_tag", "docker_digest", "docker_ovl_digest", "docker_source", "docker_config", userMember, "docker_platform",
	"format_options", "pvr", "pvr_digest", "rootfs_url", "rootfs_digest", "persistence",
}

// sourceStyle is the layout of src.json.
var sourceStyle = canon.Style{Prefix: " ", Indent: " ", HTML: true}

// Source is an application's source manifest, src.json: the source of its root file
// system and the settings of its container (manual: pvr, src.json). Members that this
// package does not know are kept.
type Source struct {
	members map[string]canon.Value
}

// newSource returns a manifest with only its version and template.
func newSource(template string) *Source {
	s := &Source{members: map[string]canon.Value{}}
	s.Set("#spec", sourceSpec)
	s.Set("template", template)
	return s
}

// parseSource reads src.json.
func parseSource(text []byte) (*Source, error) {
	v, err := canon.One(text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading src.json")
	}
	if v.Kind() != canon.Object {
		return nil, fault.New(fault.BadInput, "reading src.json: an object is expected, not a value of type %s", v.Kind())
	}
	s := &Source{members: map[string]canon.Value{}}
	for _, m := range v.Members() {
		s.members[m.Name] = m.Value
	}
	return s, s.check()
}

// check validates the types of the members that this package reads.
func (s *Source) check() error {
	for _, name := range []string{"base", "template", "docker_name", "docker_tag", "docker_digest", "docker_ovl_digest", "docker_source", "docker_platform", "format_options", "pvr", "rootfs_url", "rootfs_digest"} {
		if v, ok := s.members[name]; ok && !v.IsNull() && v.Kind() != canon.String {
			return fault.New(fault.BadInput, "reading src.json: %s: a string is expected, not a value of type %s", name, v.Kind())
		}
	}
	return nil
}

// readSource reads the file src.json at path.
func readSource(path string) (*Source, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the source manifest: %w", err)
	}
	s, err := parseSource(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Text returns a member that is a string, "" when it is missing.
func (s *Source) Text(name string) string {
	t, _ := s.members[name].Text()
	return t
}

// Value returns a member of any type; null when it is missing.
func (s *Source) Value(name string) canon.Value { return s.members[name] }

// Set sets a member to a string; an empty string removes it.
func (s *Source) Set(name, text string) {
	if text == "" {
		delete(s.members, name)
		return
	}
	s.members[name] = canon.Str(text)
}

// SetValue sets a member to a value; null and empty objects and lists remove it.
func (s *Source) SetValue(name string, v canon.Value) {
	if v.IsNull() || v.Kind() >= canon.Array && len(v.Members())+len(v.Elems()) == 0 {
		delete(s.members, name)
		return
	}
	s.members[name] = v
}

func (s *Source) clone() *Source {
	c := &Source{members: map[string]canon.Value{}}
	for name, v := range s.members {
		c.members[name] = v
	}
	return c
}

// JSON returns the manifest as a value, members sorted.
func (s *Source) JSON() canon.Value {
	var members []canon.Member
	for name, v := range s.members {
		members = append(members, canon.Member{Name: name, Value: v})
	}
	return canon.Obj(members...)
}

// Encode returns the text of src.json, members in their order.
func (s *Source) Encode() []byte { return s.encode(sourceStyle) }

func (s *Source) encode(style canon.Style) []byte {
	names := slices.DeleteFunc(slices.Clone(order), func(n string) bool { _, ok := s.members[n]; return !ok })
	for _, m := range s.JSON().Members() {
		if !slices.Contains(order, m.Name) {
			names = append(names, m.Name)
		}
	}
	out := []byte("{")
	inner := style
	inner.Prefix += inner.Indent
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, "\n"+inner.Prefix...)
		out = append(out, canon.Str(name).Pretty(inner)...)
		out = append(append(out, ':', ' '), s.members[name].Pretty(inner)...)
	}
	if len(names) > 0 {
		out = append(out, "\n"+style.Prefix...)
	}
	return append(out, '}')
}

// Kind is the kind of source of an application's root file system.
type Kind string

// The kinds of sources, as pvr app add --type takes them.
const (
	Docker Kind = "docker" // a container image
	Rootfs Kind = "rootfs" // a directory, a tar archive or the URL of one
	PVR    Kind = "pvr"    // a part of another repository
)

// ParseKind reads docker, rootfs or pvr; "" is docker.
func ParseKind(text string) (Kind, error) {
	switch k := Kind(text); k {
	case "":
		return Docker, nil
	case Docker, Rootfs, PVR:
		return k, nil
	}
	return "", fault.New(fault.BadInput, "type %s is not supported; docker, rootfs or pvr is expected", text)
}

// Kind returns the kind of source, Docker by default.
func (s *Source) Kind() Kind {
	switch {
	case s.Text("pvr") != "":
		return PVR
	case s.Text("docker_name") == "" && s.Text("rootfs_url") != "":
		return Rootfs
	}
	return Docker
}

// enable records that a volume is mounted by the device mapper.
func (s *Source) enable(volume string) {
	enabled := append([]canon.Member(nil), s.Value("dm_enabled").Members()...)
	s.SetValue("dm_enabled", canon.Obj(append(enabled, canon.Member{Name: volume, Value: canon.Boolean(true)})...))
}

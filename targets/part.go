package targets

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
)

// Part is a file that is not in any package. A target that needs it says What and From; whoever
// has it says File and SHA256, in the target or by the environment.
type Part struct {
	// What is what the file is, and in which form.
	What string `yaml:"what,omitempty" json:"what,omitempty"`
	// From is where its maker offers it.
	From string `yaml:"from,omitempty" json:"from,omitempty"`
	// Optional is set when the target works without it.
	Optional bool `yaml:"optional,omitempty" json:"optional,omitempty"`
	// File is its path, relative to the workspace. Default: the environment's PV_PART_NAME.
	File string `yaml:"file,omitempty" json:"file,omitempty"`
	// SHA256 is its digest in hexadecimal. Default: the environment's PV_PART_NAME_SHA256.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
}

// PartVariable returns the name of the environment variable with the path of a part; that
// of its digest ends in _SHA256 too.
func PartVariable(name string) string {
	return "PV_PART_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// mergeParts adds to the parts of a base those of a target: a part that both have is
// described by the base, unless the target says otherwise.
func mergeParts(base, own map[string]Part) map[string]Part {
	out := maps.Clone(base)
	for name, p := range own {
		if b, there := base[name]; there {
			p.What, p.From, p.Optional = cmp.Or(p.What, b.What), cmp.Or(p.From, b.From), p.Optional || b.Optional
		}
		if out == nil {
			out = map[string]Part{}
		}
		out[name] = p
	}
	return out
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (r checker) parts(t *Target) {
	for name, p := range t.Parts {
		at := "parts." + name
		r.Form(at, name, nameForm)
		if p.SHA256 != "" {
			r.Form(at+".sha256", p.SHA256, digestForm)
		}
		if p.File != "" && p.SHA256 == "" {
			r.Wrong(at, "field sha256 is missing: %s must be known by its digest (sha256sum %s)", p.File, filepath.Base(p.File))
		}
		if p.File == "" && p.SHA256 != "" {
			r.Wrong(at, "field file is missing: the digest alone is nothing")
		}
		if p.What == "" {
			r.Wrong(at, "field what is missing: say in one line what the file is")
		}
		if !r.used(t, name) {
			r.Wrong(at, "nothing in the target uses it")
		}
	}
}

// used reports whether something takes a part: a setting that nothing reads is a mistake.
func (r checker) used(t *Target, name string) bool {
	for _, n := range t.PartNames() {
		if n == name {
			return true
		}
	}
	return false
}

// PartNames lists the named parts that the target takes, in the order of their use.
func (t *Target) PartNames() []string {
	var out []string
	if t.Kernel != nil && t.Kernel.Part != "" {
		out = append(out, t.Kernel.Part)
	}
	return append(out, t.MediumParts()...)
}

// MediumParts lists the named parts that are needed for the media alone.
func (t *Target) MediumParts() []string {
	var out []string
	if t.Bootloader == nil {
		return nil
	}
	for _, b := range t.Bootloader.Blobs {
		if b.Part != "" {
			out = append(out, b.Part)
		}
	}
	for _, f := range t.Bootloader.Files {
		if f.Part != "" {
			out = append(out, f.Part)
		}
	}
	return append(out, t.teziParts()...)
}

// LackText is the text of an error for parts that nobody has given.
func (t *Target) LackText(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		p := t.Parts[name]
		fmt.Fprintf(&b, "part %s is not given: %s\n", name, p.What)
		if p.From != "" {
			fmt.Fprintf(&b, "  its maker offers it: %s\n", p.From)
		}
	}
	first := names[0]
	variable := PartVariable(first)
	fmt.Fprintf(&b, "give each as its file with its SHA-256, %s=FILE %s_SHA256=DIGEST for example, or in a target of your own:\n"+
		"  base: %s\n  parts: {%s: {file: FILE, sha256: DIGEST}}", variable, variable, t.Name, first)
	return b.String()
}

// Package kconfig joins fragments of a kernel's configuration and compares what they ask for
// with the configuration that the kernel's own tools made of it (Linux:
// Documentation/kbuild/kconfig.rst). Those tools drop an option without a word when its
// dependencies are off or when the kernel does not have it.
package kconfig

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Option is what a fragment asks for.
type Option struct {
	// Name has no CONFIG_.
	Name string
	// Value is as in the file: y, m, a number or a text in quotes. It is n for an option that
	// must be off.
	Value string
	// Fragment and Line are where it stands.
	Fragment string
	Line     int
}

// String is the line of a .config.
func (o Option) String() string {
	if o.Value == off {
		return fmt.Sprintf("# CONFIG_%s is not set", o.Name)
	}
	return fmt.Sprintf("CONFIG_%s=%s", o.Name, o.Value)
}

// off is the value of an option that is not set.
const off = "n"

var (
	set   = regexp.MustCompile(`^CONFIG_([A-Za-z0-9_]+)=(n|[ym]|-?[0-9]+|0x[0-9A-Fa-f]+|"(?:[^"\\]|\\.)*")$`)
	unset = regexp.MustCompile(`^# CONFIG_([A-Za-z0-9_]+) is not set$`)
)

// Parse reads a fragment: lines CONFIG_NAME=VALUE and "# CONFIG_NAME is not set", other lines
// that begin with '#', and blank ones. Errors name the fragment and the line.
func Parse(fragment, text string) ([]Option, error) {
	var out []Option
	line := 0
	for l := range strings.Lines(text) {
		line++
		o := Option{Fragment: fragment, Line: line}
		l = strings.TrimSpace(l)
		switch m := set.FindStringSubmatch(l); {
		case m != nil:
			o.Name, o.Value = m[1], m[2]
		case unset.MatchString(l):
			o.Name, o.Value = unset.FindStringSubmatch(l)[1], off
		case l == "" || l[0] == '#':
			continue
		default:
			return nil, fault.New(fault.BadInput, `%s:%d: %.80q is neither CONFIG_NAME=VALUE nor "# CONFIG_NAME is not set"`, fragment, line, l)
		}
		out = append(out, o)
	}
	return out, nil
}

// Merge joins options. Of several with one name the last counts, in the place of the first.
func Merge(options []Option) []Option {
	at := map[string]int{}
	var out []Option
	for _, o := range options {
		if i, ok := at[o.Name]; ok {
			out[i] = o
			continue
		}
		at[o.Name] = len(out)
		out = append(out, o)
	}
	return out
}

// Text returns the options as a file for KCONFIG_ALLCONFIG or to append to a .config.
func Text(options []Option) []byte {
	var b bytes.Buffer
	for _, o := range options {
		b.WriteString(o.String() + "\n")
	}
	return b.Bytes()
}

// Lost returns the options that a .config does not have as they are asked for.
func Lost(options []Option, config string) ([]Option, error) {
	have := map[string]string{}
	made, err := Parse(".config", config)
	if err != nil {
		return nil, err
	}
	for _, o := range made {
		have[o.Name] = o.Value
	}
	var out []Option
	for _, o := range options {
		if got, ok := have[o.Name]; ok && got == o.Value || !ok && o.Value == off {
			continue
		}
		out = append(out, o)
	}
	return out, nil
}

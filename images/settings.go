package images

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Setting is one line NAME=VALUE of a configuration file.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// fileSetting is a setting with its line in the file, from 1.
type fileSetting struct {
	Setting
	line int
}

// MaxSettings bounds a file of settings in config/, in bytes.
const MaxSettings = 64 << 10

// unread is the error of a file of config/ that cannot be read.
func unread(name string, err error) error {
	kind := fault.BadInput
	if errors.Is(err, fs.ErrNotExist) {
		kind = fault.Missing
	}
	return fault.New(kind, "reading configuration %s: %w", name, err)
}

// CheckSettings checks the form of a file of settings.
func CheckSettings(file build.Source) error {
	_, err := readSettings(file)
	return err
}

// readSettings reads lines NAME=VALUE; empty lines and lines that begin with '#' are
// skipped. A line without '=' and a repeated name are errors.
func readSettings(file build.Source) ([]fileSetting, error) {
	data, err := bounded.ReadRegular(file.Path, MaxSettings)
	if err != nil {
		return nil, unread(file.Name, err)
	}
	var out []fileSetting
	var errs []error
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t") {
			errs = append(errs, fault.New(fault.BadInput, "%s:%d: %.80q is not a line of the form NAME=VALUE", file.Name, n, line))
			continue
		}
		if seen[strings.ToUpper(key)] {
			errs = append(errs, fault.New(fault.BadInput, "%s:%d: %s is set twice", file.Name, n, key))
		}
		seen[strings.ToUpper(key)] = true
		out = append(out, fileSetting{Setting{key, value}, n})
	}
	return out, errors.Join(errs...)
}

// Value returns what a key of the runtime's configuration is set to; "" when it is not.
func (c *Config) Value(key string) (string, error) {
	read, err := readSettings(c.Runtime)
	if err != nil {
		return "", err
	}
	all := slices.Clone(c.Derived)
	for _, s := range read {
		all = append(all, s.Setting)
	}
	i := slices.IndexFunc(all, func(s Setting) bool { return strings.EqualFold(s.Key, key) })
	if i < 0 {
		return "", nil
	}
	return all[i].Value, nil
}

// runtimeConfig returns pantavisor.config for the initrd: the platform's file and the
// derived keys, sorted.
func runtimeConfig(file build.Source, derived []Setting) ([]byte, error) {
	read, err := readSettings(file)
	if err != nil {
		return nil, err
	}
	var set []Setting
	lines := map[string]int{}
	for _, s := range read {
		set = append(set, s.Setting)
		lines[s.Key] = s.line
	}
	var errs []error
	for _, d := range derived {
		i := slices.IndexFunc(set, func(s Setting) bool { return strings.EqualFold(s.Key, d.Key) })
		switch {
		case i < 0:
			set = append(set, d)
		case set[i].Value != d.Value && !strings.HasPrefix(d.Key, "PV_DEBUG_"):
			errs = append(errs, fault.New(fault.BadInput, "%s:%d: %s is %q, but the target has %q: remove the line", file.Name, lines[set[i].Key], set[i].Key, set[i].Value, d.Value))
		}
	}
	slices.SortStableFunc(set, func(a, b Setting) int { return strings.Compare(a.Key, b.Key) })
	var b strings.Builder
	for _, s := range set {
		b.WriteString(s.Key + "=" + s.Value + "\n")
	}
	return []byte(b.String()), errors.Join(errs...)
}

// withSetting returns the text of a configuration file with a setting in place of any of
// its name.
func withSetting(text []byte, key, value string) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "=")
		if !strings.EqualFold(name, key) {
			b.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		}
	}
	b.WriteString(key + "=" + value + "\n")
	return []byte(b.String())
}

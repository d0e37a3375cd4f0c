package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// LoadFile reads a configuration file at a level. A missing file is an error
// that wraps fs.ErrNotExist; wrong lines become notes.
func (c *Config) LoadFile(l Level, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("loading configuration: %w", err)
	}
	defer f.Close()
	if err := c.LoadReader(l, f); err != nil {
		return fmt.Errorf("loading configuration %s: %w", path, err)
	}
	c.noteInert(l)
	return nil
}

// LoadReader reads lines "key=value", split at the first '='. White space at the
// end of a line is cut; empty lines and lines that begin with '#' are skipped.
func (c *Config) LoadReader(l Level, r io.Reader) error {
	data, err := bounded.Read(r, maxFile)
	if err != nil {
		return err
	}
	for _, line := range Lines(string(data)) {
		if !line.OK {
			c.note(l, "line %d has no '='", line.Number)
			continue
		}
		c.Set(l, line.Name, line.Value)
	}
	return nil
}

// Line is a line of a configuration file.
type Line struct {
	Number      int // from 1
	Name, Value string
	OK          bool // it has a '='; without one, Name is the whole line
}

// Lines returns the lines of a configuration file as [Config.LoadReader] reads them,
// without empty ones and comments.
func Lines(text string) []Line {
	var out []Line
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r\v\f\x00")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		out = append(out, Line{i + 1, name, value, ok})
	}
	return out
}

// LoadCmdline takes the words pv_<key>=<value> and ph_<key>=<value> of a kernel
// command line. The key may be the new name (PV_LOG_LEVEL, any case) or an old one
// behind the prefix (pv_log.level). Double quotes keep blanks together, as in the
// kernel. All else is left to others.
func (c *Config) LoadCmdline(line string) {
	for _, word := range splitLine(line) {
		name, raw, ok := strings.Cut(word, "=")
		if !ok || len(name) < 4 {
			continue
		}
		switch strings.ToLower(name[:3]) {
		case "pv_":
			c.setWord(PVCmdline, name, raw)
		case "ph_":
			c.setWord(PHCmdline, name, raw)
		}
	}
}

// bootState are words that the boot loader or an emulator leaves for the runtime; they are no
// configuration.
var bootState = []string{"pv_boot_partuuid", "pv_rev", "pv_try", "pv_trying", "pv_verityoff", "pv_quickboot", "pv_autogrow", "pv_hostport"}

func (c *Config) setWord(l Level, name, raw string) {
	for _, w := range bootState {
		if name == w {
			return
		}
	}
	if _, _, ok := lookup(name); ok || isNewSysctl(name) {
		c.Set(l, name, raw)
		return
	}
	c.Set(l, name[3:], raw)
}

// splitLine splits a kernel command line at blanks outside double quotes and removes
// the quotes, as the kernel does (Documentation/admin-guide/kernel-parameters).
func splitLine(line string) []string {
	var out []string
	var word strings.Builder
	quoted, started := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, started = !quoted, true
		case !quoted && (r == ' ' || r == '\t' || r == '\n' || r == 0):
			if started {
				out = append(out, word.String())
			}
			word.Reset()
			started = false
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if started {
		out = append(out, word.String())
	}
	return out
}

// LoadEnv takes the variables of an environment whose names begin with PV_ or
// PH_ in any case. Unknown ones are left alone: other programs use the prefix too.
func (c *Config) LoadEnv(environ []string) {
	for _, e := range environ {
		name, raw, ok := strings.Cut(e, "=")
		if !ok || len(name) < 4 {
			continue
		}
		if p := strings.ToUpper(name[:3]); p != "PV_" && p != "PH_" {
			continue
		}
		if _, _, ok := lookup(name); ok || isNewSysctl(name) {
			c.Set(Env, name, raw)
		}
	}
}

// LoadArgs takes the process's own words pv_embedded, pv_standalone,
// pv_appengine and pv_debug.
func (c *Config) LoadArgs(words []string) {
	for _, w := range words {
		switch w {
		case "pv_embedded", "pv_standalone", "pv_appengine":
			c.put(Args, SystemInitMode, w[3:])
		case "pv_debug":
			c.put(Args, DebugShell, "1")
		}
	}
}

// Sources says where a runtime finds its configuration. Empty members are left out.
type Sources struct {
	// File is pantavisor.config. It must exist.
	File string
	// Hub is pantahub.config, when it is not on the storage (see LoadFile). It may
	// be missing.
	Hub string
	// Policies is the directory of the policy files. Default: policies below
	// PV_SYSTEM_ETCPANTAVISORDIR.
	Policies string
	// Cmdline is the kernel command line's file, /proc/cmdline.
	Cmdline string
	// Environ is the environment as os.Environ returns it.
	Environ []string
	// Args are the process's words behind its name.
	Args []string
}

// Load reads all that is known before the storage is mounted: words, files,
// kernel command line, environment and policy. It always returns a usable
// configuration; the error collects what could not be read. A configured policy
// without a file is such an error, and a device must not go on without it.
func Load(s Sources) (*Config, error) {
	c := New()
	var errs []error
	c.LoadArgs(s.Args)
	if s.File != "" {
		errs = append(errs, c.LoadFile(PVConf, s.File))
	}
	if s.Hub != "" {
		if err := c.LoadFile(PHConf, s.Hub); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	var words []string
	if s.Cmdline != "" {
		line, err := os.ReadFile(s.Cmdline)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading the kernel command line: %w", err))
		}
		c.LoadCmdline(string(line))
		words = splitLine(string(line))
	}
	// The kernel gives process 1 such words as environment too: they are one source.
	c.LoadEnv(slices.DeleteFunc(slices.Clone(s.Environ), func(e string) bool { return slices.Contains(words, e) }))
	errs = append(errs, c.loadPolicy(s.Policies))
	for _, l := range []Level{PVCmdline, PHCmdline, Env} { // files note their own
		c.noteInert(l)
	}
	return c, errors.Join(errs...)
}

// Policy returns the name of the policy, "" without one. The kernel command line
// goes before the environment here, unlike elsewhere.
func (c *Config) Policy() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	vs := c.set[PolicyName]
	for _, v := range vs {
		if v.from == PVCmdline {
			return v.text
		}
	}
	if len(vs) == 0 {
		return ""
	}
	return vs[len(vs)-1].text
}

func (c *Config) loadPolicy(dir string) error {
	name := c.Policy()
	if name == "" {
		return nil
	}
	if !plainName(name) {
		return fmt.Errorf("policy %q: PV_POLICY must be a file name without '/'", name)
	}
	if dir == "" {
		dir = filepath.Join(c.String(SystemEtcPantavisorDir), "policies")
	}
	return c.LoadFile(Policy, filepath.Join(dir, name+".config"))
}

// LoadOEM reads the configuration that the running revision brings: the file of
// the policy (or "default") in the directory PV_OEM_NAME of the revision's files at
// trail. Neither a name nor a file is needed.
func (c *Config) LoadOEM(trail string) error {
	name, policy := c.String(OEMName), c.Policy()
	if name == "" {
		return nil
	}
	if policy == "" {
		policy = "default"
	}
	if !plainName(name) || !plainName(policy) {
		return fmt.Errorf("OEM configuration %q/%q: PV_OEM_NAME and PV_POLICY must be names without '/'", name, policy)
	}
	err := c.LoadFile(OEM, filepath.Join(trail, name, policy+".config"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func plainName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}

// Package buildroot finds what a build with Buildroot has left in its output directory.
//
// Names are computed from the build's .config as Buildroot's makefiles compute them (linux/linux.mk,
// fs/common.mk, package/pkg-generic.mk of Buildroot 2024.02 to 2026.08); nothing is looked for by
// patterns. What the configuration makes and the directory lacks is an error that names the option.
package buildroot

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// maxConfig bounds a .config, in bytes. Those of Buildroot have some 200 KiB.
const maxConfig = 8 << 20

// Output is the output directory of a build.
type Output struct {
	// Dir is the directory (BASE_DIR), absolute.
	Dir string
	// ConfigFile is its .config (BR2_CONFIG).
	ConfigFile string
	values     map[string]string
}

// Open reads the configuration of the build in a directory.
func Open(dir string) (*Output, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading Buildroot's output")
	}
	o := &Output{Dir: abs, values: map[string]string{}}
	if o.ConfigFile, err = configFile(abs); err != nil {
		return nil, err
	}
	text, err := bounded.ReadRegular(o.ConfigFile, maxConfig)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading Buildroot's configuration")
	}
	o.parse(text)
	if len(o.values) == 0 {
		return nil, fault.New(fault.BadInput, "%s has no options of Buildroot, lines BR2_NAME=VALUE", o.ConfigFile)
	}
	return o, nil
}

// configFile returns where the configuration is: in the output directory, and for builds in
// Buildroot's own directory beside their output (Buildroot: Makefile, CONFIG_DIR).
func configFile(dir string) (string, error) {
	own := filepath.Join(dir, ".config")
	_, err := os.Stat(own)
	if err == nil {
		return own, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap(fault.IO, err, "reading Buildroot's output")
	}
	if filepath.Base(dir) == "output" {
		beside := filepath.Join(filepath.Dir(dir), ".config")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	return "", fault.New(fault.Missing, "%s is not an output directory of Buildroot: it has no .config", dir)
}

// parse reads lines NAME=VALUE as Kconfig writes them.
func (o *Output) parse(text []byte) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxConfig)
	for lines.Scan() {
		name, value, given := strings.Cut(lines.Text(), "=")
		if given && strings.HasPrefix(name, "BR2_") {
			o.values[name] = unquote(value)
		}
	}
}

// unquote takes the quotes off a string, in which Kconfig escapes '"' and '\'.
func unquote(value string) string {
	inner, quoted := strings.CutPrefix(value, `"`)
	if !quoted {
		return value
	}
	inner = strings.TrimSuffix(inner, `"`)
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(inner)
}

// Enabled reports whether an option is on.
func (o *Output) Enabled(option string) bool { return o.values[option] == "y" }

// Value returns the value of an option without quotes and blanks around it, "" for one that is
// not set. A value with variables of make, which only Buildroot can expand, is an error.
func (o *Output) Value(option string) (string, error) {
	value := strings.TrimSpace(o.values[option])
	if strings.Contains(value, "$(") {
		return "", fault.New(fault.Unsupported, "%s: %s is %q: variables of make are known to Buildroot alone", o.ConfigFile, option, value)
	}
	return value, nil
}

// Raw returns the value of an option as it is.
func (o *Output) Raw(option string) string { return o.values[option] }

// words returns the words of an option's value.
func (o *Output) words(option string) ([]string, error) {
	value, err := o.Value(option)
	return strings.Fields(value), err
}

// Image returns the path of a file in the directory images/, which an option makes.
func (o *Output) Image(name, option string) (string, error) {
	if !fs.ValidPath(name) {
		return "", fault.New(fault.BadInput, "%s: %s: %q is not the name of a file", o.ConfigFile, option, name)
	}
	return o.file(filepath.Join("images", filepath.FromSlash(name)), option)
}

// Target is the directory with the root file system (TARGET_DIR). Its owners and devices are not
// those of the device.
func (o *Output) Target() string { return filepath.Join(o.Dir, "target") }

// file returns the path of a file that an option makes.
func (o *Output) file(name, option string) (string, error) {
	file := filepath.Join(o.Dir, name)
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fault.New(fault.Missing, "%s does not exist, and %s makes it: the build is not finished (make), or the option was changed after it", file, option)
	case err != nil:
		return "", fault.Wrap(fault.IO, err, "reading Buildroot's output")
	case !info.Mode().IsRegular():
		return "", fault.New(fault.BadInput, "%s is not a regular file", file)
	}
	return file, nil
}

// exists reports whether the directory has a file or directory.
func (o *Output) exists(name string) bool {
	_, err := os.Stat(filepath.Join(o.Dir, name))
	return err == nil
}

// Root is the root file system that a build has made.
type Root struct {
	// Form is squashfs, tar or cpio.
	Form string
	Path string
}

// roots are the forms of root file systems that have owners and devices, the best one first: a
// squashfs is what the container has in the end, and was asked for; a tar is Buildroot's default.
// Files without compression are always there (fs/common.mk).
var roots = []string{"squashfs", "tar", "cpio"}

// Root returns the root file system in the best form that the build makes; form "" is any.
func (o *Output) Root(form string) (*Root, error) {
	for _, f := range roots {
		option := "BR2_TARGET_ROOTFS_" + strings.ToUpper(f)
		if form != "" && form != f || !o.Enabled(option) {
			continue
		}
		file, err := o.Image("rootfs."+f, option)
		return &Root{f, file}, err
	}
	if form != "" {
		return nil, fault.New(fault.BadInput, "%s: BR2_TARGET_ROOTFS_%s is not set, which makes images/rootfs.%s", o.ConfigFile, strings.ToUpper(form), form)
	}
	return nil, fault.New(fault.BadInput, "%s: the build makes no root file system: set BR2_TARGET_ROOTFS_SQUASHFS, or BR2_TARGET_ROOTFS_TAR", o.ConfigFile)
}

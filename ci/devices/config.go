// Package devices keeps devices and the recipes of their revisions up to date, and promotes them
// (manual: Update CI). The project's file device-ci.conf.json lists the devices ([Config]).
//
//	update   brings the BSP and the containers of each schedule device to what their src.json
//	         names, posts what changed, and commits the state to recipes/ID
//	promote  posts the states of recipes/ to the tag devices, makes the images, and publishes them
//
// A device is one of a Hub, one in the network, a repository in a directory, or one in a bucket
// ([place]). Each command begins with what is there: one that was killed is run again and does what
// is left.
package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// ConfigName is the file that lists the devices, in the project's directory.
const ConfigName = "device-ci.conf.json"

// Config is the content of device-ci.conf.json (manual: device-ci.conf.json).
type Config struct {
	// File name of the template of the pipeline: update-ci.yml.
	Template string `yaml:"yml_template" json:"yml_template" jsonschema:"minLength=1"`
	// Devices that are kept up to date.
	Devices []Device `yaml:"device_list,omitempty" json:"device_list"`
}

// Device is a pair of devices that share a recipe: one that is kept up to date, and one that gets
// what was promoted.
type Device struct {
	// Unique name, which its recipe and its images have.
	ID string `yaml:"id" json:"id" jsonschema:"minLength=1"`
	// Device that is kept up to date: a device of the Hub by name, as NICK/NAME or by URL, the IP
	// address of a device, a directory ("./…" or absolute), or s3://BUCKET/PREFIX.
	Schedule string `yaml:"schedule" json:"schedule" jsonschema:"minLength=1"`
	// Device that gets the contents of recipes/ when a commit is promoted, in the same forms.
	Tag string `yaml:"tag" json:"tag" jsonschema:"minLength=1"`
	// Name of its image channel. Default: stable, and release candidate for tags with -rc.
	ImageChannel string `yaml:"image_channel,omitempty" json:"image_channel"`
	// Target that its images are built for. Default: the one that the recipe's bsp/build.json names.
	Target string `yaml:"target,omitempty" json:"target,omitempty"`
	// Images that a promotion makes.
	Builds []Build `yaml:"build,omitempty" json:"build,omitempty"`
}

// Build is an image of a device.
type Build struct {
	// Name of the image, unique for the device.
	Name string `yaml:"name" json:"name" jsonschema:"minLength=1"`
	// Options of the build, NAME=VALUE separated by blanks: PANTAVISOR_DEBUG=yes.
	Options string `yaml:"options,omitempty" json:"options"`
}

var (
	idForm      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	channelForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)
	optionForm  = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)
)

// templateName is the template of the pipeline that keeps devices up to date.
const templateName = "update-ci.yml"

// errNone is the error for a directory without devices.
var errNone = errors.New(ConfigName + " does not exist; pvci device init makes it")

// Load reads the devices of a project. The error lists all mistakes.
func Load(dir string) (*Config, error) {
	name := filepath.Join(dir, ConfigName)
	data, err := bounded.ReadRegular(name, yamlfile.Limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Missing, errNone, "looking for the devices of %s", dir)
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading %s", name)
	}
	return parse(name, data)
}

// parse reads the text of a device-ci.conf.json; the name is for messages.
func parse(name string, data []byte) (*Config, error) {
	if !json.Valid(data) {
		var v any
		return nil, fault.Wrap(fault.BadInput, json.Unmarshal(data, &v), "reading %s", name)
	}
	// Tabs may indent JSON, but not YAML; in a text of JSON there is none.
	data = []byte(strings.ReplaceAll(string(data), "\t", " "))
	c := &Config{}
	f, ok := yamlfile.Read(name, yamlfile.Kind{Name: "a list of devices"}, data, c)
	if ok {
		c.check(f)
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) check(f *yamlfile.File) {
	if strings.ContainsAny(c.Template, `/\`) {
		f.Wrong("yml_template", "yml_template: the name of a file without directories is expected: %s", templateName)
	}
	ids, images := map[string]bool{}, map[string]bool{}
	for i, d := range c.Devices {
		at := fmt.Sprintf("device_list[%d].", i)
		if ids[d.ID] {
			f.Wrong(at+"id", "id: another device has the name %s", d.ID)
		}
		ids[d.ID] = true
		d.check(f, at)
		d.checkBuilds(f, at, images)
	}
}

func (d *Device) check(f *yamlfile.File, at string) {
	f.Form(at+"id", d.ID, idForm)
	if d.ImageChannel != "" {
		f.Form(at+"image_channel", d.ImageChannel, channelForm)
	}
	if d.ImageChannel == channelStable || strings.HasPrefix(d.ImageChannel, "rc") {
		f.Wrong(at+"image_channel", "image_channel: %s is for devices without image_channel", d.ImageChannel)
	}
	if d.Target != "" {
		f.Form(at+"target", d.Target, idForm)
	}
	for field, name := range map[string]string{"schedule": d.Schedule, "tag": d.Tag} {
		if err := checkPlace(name); err != nil {
			f.Wrong(at+field, "%s: %v", field, err)
		}
	}
}

// checkBuilds checks the images of a device. The names of all are in images: those of their directories
// and of their releases, which both have the device's and the image's.
func (d *Device) checkBuilds(f *yamlfile.File, at string, images map[string]bool) {
	for i, b := range d.Builds {
		path := fmt.Sprintf("%sbuild[%d].", at, i)
		f.Form(path+"name", b.Name, idForm)
		names := []string{d.image(b.Name)}
		if b.Name == defaultBuild { // in catalogues it has the device's name
			names = append(names, d.ID)
		}
		for _, name := range names {
			if images[name] {
				f.Wrong(path+"name", "name: another image is %s, too; the names of device and image together must differ", name)
			}
			images[name] = true
		}
		if _, err := b.settings(); err != nil {
			f.Wrong(path+"options", "options: %v", err)
		}
	}
}

// image is the name of an image among those of all devices.
func (d *Device) image(build string) string { return d.ID + "-" + build }

// settings are the options of a build, in the form of os.Environ.
func (b *Build) settings() ([]string, error) {
	words := strings.Fields(b.Options)
	for i, w := range words {
		if !optionForm.MatchString(w) {
			return nil, fault.New(fault.BadInput, "%q is not NAME=VALUE; several are separated by blanks", w)
		}
		name, value, _ := strings.Cut(w, "=")
		words[i] = name + "=" + strings.Trim(value, `"'`)
	}
	return words, nil
}

// placeForms describes the names of devices for messages.
const placeForms = `a device of the Hub by name, NICK/NAME or URL, the IP address of a device, a directory ("./…" or absolute), or s3://BUCKET/PREFIX is expected`

var hubName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$`)

// checkPlace checks the form of a device's name.
func checkPlace(name string) error {
	switch {
	case strings.ContainsAny(name, "#\n"):
		return fault.New(fault.BadInput, "%q selects parts; %s", name, placeForms)
	case isDirectory(name), strings.Contains(name, "://"), isAddress(name), hubName.MatchString(name):
		return nil
	}
	return fault.New(fault.BadInput, "%q: %s", name, placeForms)
}

// isDirectory reports whether a device's name is that of a directory.
func isDirectory(name string) bool {
	return filepath.IsAbs(name) || name == "." || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../")
}

// defaultBuild is the usual name of a device's only image.
const defaultBuild = "default"

// example is the list of devices that [Init] makes.
var example = &Config{Template: templateName, Devices: []Device{{
	ID: "example", Schedule: "./devices/example_latest", Tag: "./devices/example_stable",
	Builds: []Build{{Name: defaultBuild}},
}}}

// ignored are lines of .gitignore: working files of the commands.
var ignored = []string{"/" + workName + "/", "/out/"}

// Init makes the device-ci.conf.json of a project with an example; an existing one stays. It
// returns the files that it wrote.
func Init(_ context.Context, dir string) ([]string, error) {
	path := filepath.Join(dir, ConfigName)
	if _, err := os.Lstat(path); err == nil {
		return nil, fault.New(fault.BadInput, "%s exists already; edit it, then run pvci device install", ConfigName)
	}
	data, err := json.MarshalIndent(example, "", "  ")
	if err == nil {
		err = atomicfile.Write(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "making %s", path)
	}
	added, err := ignore(filepath.Join(dir, ".gitignore"))
	if added {
		return []string{ConfigName, ".gitignore"}, err
	}
	return []string{ConfigName}, err
}

// ignore adds what is missing of ignored to a file.
func ignore(path string) (added bool, err error) {
	data, err := bounded.ReadFile(path, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fault.Wrap(fault.IO, err, "reading %s", path)
	}
	text := string(data)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, line := range ignored {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			text += line + "\n"
			added = true
		}
	}
	if !added {
		return false, nil
	}
	return true, fault.Wrap(fault.IO, atomicfile.Write(path, []byte(text), 0o644), "writing %s", path)
}

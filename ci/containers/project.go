package containers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/app/image"
)

// Names of a project's files.
const (
	confName    = "container-ci.conf"
	packageName = "pvpkg.json"
	sourceDir   = "pvpkg"
	// ReleasesDir is the directory of what is made.
	ReleasesDir = "releases"
)

// firstVersion is the version of a new package.
const firstVersion = "v0.0.1"

// maxFile bounds the files of a project, in bytes.
const maxFile = 4 << 20

// description is pvpkg.json.
type description struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// word is what a name, a version and a build version can be: they are parts of names of files.
var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}$`)

func (d *description) check() error {
	for _, f := range [][2]string{{"name", d.Name}, {"version", d.Version}} {
		if !word.MatchString(f[1]) {
			return fault.New(fault.BadInput, "%s: %s %q: letters, digits and . _ + ~ - are expected, at most 100, a letter or digit first", packageName, f[0], f[1])
		}
	}
	return nil
}

// readDescription reads pvpkg.json. The error for a missing one wraps fs.ErrNotExist.
func readDescription(dir string) (*description, error) {
	text, err := readFile(filepath.Join(dir, packageName))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the package's description (pvci container init makes one)")
	}
	d := &description{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", filepath.Join(dir, packageName))
	}
	return d, d.check()
}

// describe writes pvpkg.json unless there is one.
func describe(dir, name string) (written []string, err error) {
	if _, err := readDescription(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	d := &description{Name: name, Version: firstVersion}
	if err := d.check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "describing the package")
	}
	return []string{packageName}, atomicfile.Write(filepath.Join(dir, packageName), append(text, '\n'), 0o644)
}

// Init makes the description of a package and the list of its platforms in a directory; files that are
// there stay. The default of the name is that of the directory, and of the platforms the usual ones. It
// returns the names of the files that it made.
func Init(dir, name string, lists ...string) ([]string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the project")
	}
	if name == "" {
		name = filepath.Base(abs)
	}
	wanted, err := parsePlatforms(lists...)
	if err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		wanted = platforms[:usual]
	}
	written, err := describe(dir, name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(dir, confName)); err == nil {
		return written, nil
	}
	more, err := configure(dir, wanted)
	return append(written, more...), err
}

// platformsLine is the line of container-ci.conf with the platforms, in the syntax of a shell.
var platformsLine = regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?PLATFORMS=(?:"([^"\n]*)"|'([^'\n]*)'|([^\s#]*))[ \t]*(?:#.*)?$`)

// configured returns the platforms of container-ci.conf; none when there is no such file.
func configured(dir string) ([]Platform, error) {
	text, err := bounded.ReadRegular(filepath.Join(dir, confName), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the configuration")
	}
	m := platformsLine.FindSubmatch(text)
	if m == nil {
		return nil, fault.New(fault.BadInput, "%s: it has no line PLATFORMS=\"linux/amd64,linux/arm64\"", confName)
	}
	out, err := parsePlatforms(string(slices.Concat(m[1:]...)))
	return out, fault.Wrap(fault.BadInput, err, "%s", confName)
}

// configure writes the platforms into container-ci.conf, whose other lines stay.
func configure(dir string, wanted []Platform) (written []string, err error) {
	var names []string
	for _, p := range wanted {
		names = append(names, p.Docker)
	}
	line := []byte(`PLATFORMS="` + strings.Join(names, ",") + `"`)
	path := filepath.Join(dir, confName)
	old, err := bounded.ReadRegular(path, maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.IO, err, "reading the configuration")
	}
	text := append(line, '\n')
	switch {
	case platformsLine.Match(old):
		text = platformsLine.ReplaceAllLiteral(old, line)
	case len(old) > 0:
		text = append(append(bytes.TrimRight(old, "\n"), '\n'), text...)
	}
	if bytes.Equal(text, old) {
		return nil, nil
	}
	return []string{confName}, atomicfile.Write(path, text, 0o644)
}

// InstallOptions describe a container that a project gets.
type InstallOptions struct {
	// Dir is the project.
	Dir string
	// Platforms are lists of platforms, as in docker --platform; none takes those of container-ci.conf.
	Platforms []string
	// App is what pvr app add is told of the container. From names the image; {arch} in it stands for the
	// directory of each platform, for archives of one platform each.
	App app.AddOptions
	// Origins are where images are looked for; default remote, local.
	Origins []image.Origin
}

// Install writes the manifests of a container, one for each platform, and what the project lacks: its
// description and configuration. Nobody asks for the image: it need not be there yet. It returns the names
// of the files that have new content.
func Install(name string, o InstallOptions) ([]string, error) {
	name, err := app.CheckName(name)
	if err != nil {
		return nil, err
	}
	wanted, err := parsePlatforms(o.Platforms...)
	if err != nil {
		return nil, err
	}
	given := len(wanted) > 0
	if !given {
		if wanted, err = configured(o.Dir); err != nil {
			return nil, err
		}
	}
	if len(wanted) == 0 {
		return nil, fault.New(fault.BadInput, "no platforms: name them with -p linux/amd64,linux/arm64 or PLATFORMS in %s", confName)
	}
	origins := o.Origins
	if len(origins) == 0 {
		origins = []image.Origin{image.Remote, image.Local}
	}
	texts := map[string][]byte{}
	for _, p := range wanted {
		a := o.App
		a.From = strings.ReplaceAll(a.From, "{arch}", p.Dir)
		if texts[filepath.Join(sourceDir, p.Dir, name, app.SourceName)], err = a.Manifest(p.Docker, origins); err != nil {
			return nil, fmt.Errorf("describing container %q: %w", name, err)
		}
	}
	written, err := describe(o.Dir, name)
	if err != nil {
		return nil, err
	}
	if given {
		more, err := configure(o.Dir, wanted)
		if err != nil {
			return nil, err
		}
		written = append(written, more...)
	}
	more, err := writeChanged(o.Dir, texts)
	return append(written, more...), err
}

// writeChanged writes files whose content is another one, and returns their names, sorted.
func writeChanged(dir string, texts map[string][]byte) (written []string, err error) {
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fault.Wrap(fault.IO, err, "making the directory of %s", name)
		}
		if err := atomicfile.Write(path, text, 0o644); err != nil {
			return nil, err
		}
		written = append(written, filepath.ToSlash(name))
	}
	slices.Sort(written)
	return written, nil
}

// target is what is made for one platform.
type target struct {
	Platform

	apps []source
}

// source is what a manifest says of a container.
type source struct {
	name     string
	from     string // the image
	platform string
	origins  string // where it is looked for
}

// targets returns what a project has, in the order of the table of platforms, and of them the wanted ones.
func targets(dir string, wanted []Platform) ([]target, error) {
	entries, err := os.ReadDir(filepath.Join(dir, sourceDir))
	if err != nil {
		return nil, fault.Wrap(fault.Missing, err, "looking for containers (pvci container install makes their manifests)")
	}
	var out []target
	var names []string
	for _, e := range entries {
		p, ok := ofDirectory(e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
			continue
		case !ok:
			return nil, fault.New(fault.BadInput, "%s/%s: that is not the directory of a platform", sourceDir, e.Name())
		}
		names = append(names, p.Docker)
		if len(wanted) > 0 && !slices.Contains(wanted, p) {
			continue
		}
		t := target{Platform: p}
		if t.apps, err = containersOf(dir, p); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	for _, p := range wanted {
		if !slices.ContainsFunc(out, func(t target) bool { return t.Platform == p }) {
			return nil, fault.New(fault.BadInput, "platform %s: the project has %s; pvci container install -p adds others", p.Docker, strings.Join(names, ", "))
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.BadInput, "%s has no platform; pvci container install makes them", sourceDir)
	}
	slices.SortFunc(out, func(a, b target) int {
		return slices.Index(platforms, a.Platform) - slices.Index(platforms, b.Platform)
	})
	return out, nil
}

// containersOf returns the containers that a project has for a platform.
func containersOf(dir string, p Platform) ([]source, error) {
	parent := filepath.Join(dir, sourceDir, p.Dir)
	names, err := (&app.Workspace{Dir: parent}).List()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fault.New(fault.BadInput, "%s/%s has no container: a directory with %s is expected", sourceDir, p.Dir, app.SourceName)
	}
	var out []source
	for _, name := range names {
		where := sourceDir + "/" + p.Dir + "/" + name + "/" + app.SourceName
		text, err := bounded.ReadRegular(filepath.Join(parent, name, app.SourceName), maxFile)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading %s", where)
		}
		var src struct {
			Name     string `json:"docker_name"`
			Tag      string `json:"docker_tag"`
			Platform string `json:"docker_platform"`
			Source   string `json:"docker_source"`
		}
		if err := json.Unmarshal(text, &src); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading %s", where)
		}
		same, err := parsePlatforms(src.Platform)
		switch {
		case src.Name == "":
			return nil, fault.New(fault.BadInput, "%s: docker_name is missing: only containers of images are made here", where)
		case err != nil || len(same) != 1 || same[0] != p:
			return nil, fault.New(fault.BadInput, "%s: docker_platform %q: %q is expected for the directory %s", where, src.Platform, p.Docker, p.Dir)
		}
		out = append(out, source{name: name, from: image.JoinReference(src.Name, src.Tag), platform: src.Platform, origins: src.Source})
	}
	return out, nil
}

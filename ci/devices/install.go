package devices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// InstallOptions say how the pipeline of a project is made.
type InstallOptions struct {
	Dir string
	// Include is what the pipeline includes, in place of the template of device-ci.conf.json: of
	// GitLab the path of a file in the project, PROJECT@REF:PATH or a URL; of GitHub
	// OWNER/REPOSITORY/PATH@REF or the path of a file. Default: the template in the directory
	// /ci/gitlab or ./ci/github of the project or its submodule device-ci.
	Include string
	// GitHub makes a workflow of GitHub.
	GitHub bool
	// Force replaces a pipeline that this program did not make.
	Force bool
}

// made is the first line of the files that Install makes, by which it knows them again.
const made = "# Made by pvci device install from " + ConfigName + "; run it again when that changes."

const (
	gitLabFile = ".gitlab-ci.yml"
	gitHubFile = ".github/workflows/update-ci.yml"
)

var gitLabText = template.Must(template.New(gitLabFile).Funcs(quoting).Parse(made + `
include:
{{- if .Project}}
  - project: {{quote .Project}}
    ref: {{quote .Ref}}
    file: {{quote .File}}
{{- else if .Remote}}
  - remote: {{quote .Remote}}
{{- else}}
  - local: {{quote .File}}
{{- end}}

update:
  extends: .update-devices
{{range .Devices}}
promote-{{.ID}}:
  extends: .promote-device
  variables:
    DEVICE: {{quote .ID}}
{{end}}`))

var gitHubText = template.Must(template.New(gitHubFile).Funcs(quoting).Parse(made + `
name: update-ci
on:
  schedule:
    - cron: "0 2 * * *"
  workflow_dispatch:
  push:
    tags: ["*"]
permissions:
  contents: write
jobs:
  update:
    if: github.event_name != 'push'
    uses: {{quote .File}}
    with:
      step: update
    secrets: inherit
{{range .Devices}}
  promote-{{job .ID}}:
    if: github.event_name == 'push'
    uses: {{quote $.File}}
    with:
      step: promote
      device: {{quote .ID}}
    secrets: inherit
{{end}}`))

var quoting = template.FuncMap{
	// A text of JSON is one of YAML, too.
	"quote": func(text string) (string, error) {
		out, err := json.Marshal(text)
		return string(out), err
	},
	// Names of jobs of GitHub have no dots.
	"job": func(id string) string { return strings.ReplaceAll(id, ".", "_") },
}

// include is what a pipeline includes.
type include struct {
	Project, Ref, File, Remote string
	Devices                    []Device
}

// submodule is where the manual has this repository in a project.
const submodule = "device-ci"

func (o *InstallOptions) include(c *Config) (*include, error) {
	in := &include{Devices: c.Devices, File: o.Include}
	name, ref, at := strings.Cut(o.Include, "@")
	switch {
	case o.Include == "":
		in.File = o.template(c.Template)
	case o.GitHub:
	case strings.Contains(o.Include, "://"):
		in.Remote = o.Include
	case at:
		var ok bool
		if in.Ref, in.File, ok = strings.Cut(ref, ":"); !ok || name == "" || in.Ref == "" || in.File == "" {
			return nil, fault.New(fault.BadInput, "%q: PROJECT@REF:PATH is expected", o.Include)
		}
		in.Project = name
	case !strings.HasPrefix(o.Include, "/"):
		in.File = "/" + o.Include
	}
	return in, nil
}

// template is the path of a template in the project.
func (o *InstallOptions) template(name string) string {
	dir := "ci/gitlab/"
	if o.GitHub {
		dir = ".github/workflows/pantavisor-"
		return "./" + dir + name
	}
	if _, err := bounded.ReadRegular(filepath.Join(o.Dir, submodule, dir, name), maxPEM); err == nil {
		dir = submodule + "/" + dir
	}
	return "/" + dir + name
}

// Install makes the pipeline of a project from its device-ci.conf.json, and returns its path below
// the project. The same devices make the same file.
func (o InstallOptions) Install(_ context.Context) (string, error) {
	c, err := Load(o.Dir)
	if err != nil {
		return "", err
	}
	if len(c.Devices) == 0 {
		return "", fault.New(fault.BadInput, "%s: device_list is empty; a pipeline needs a device", ConfigName)
	}
	in, err := o.include(c)
	if err != nil {
		return "", err
	}
	name, text := gitLabFile, gitLabText
	if o.GitHub {
		name, text = gitHubFile, gitHubText
	}
	var b bytes.Buffer
	if err := text.Execute(&b, in); err != nil {
		return "", fault.Wrap(fault.Internal, err, "making %s", name)
	}
	path := filepath.Join(o.Dir, filepath.FromSlash(name))
	old, err := bounded.ReadRegular(path, maxPEM)
	switch {
	case err == nil && !bytes.HasPrefix(old, []byte(made)) && !o.Force:
		return "", fault.New(fault.BadInput, "%s exists and was not made by pvci device install: --force replaces it", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fault.Wrap(fault.IO, err, "reading %s", name)
	}
	if err := writeBelow(path, b.Bytes()); err != nil {
		return "", fault.Wrap(fault.IO, err, "writing %s", name)
	}
	return name, nil
}

// writeBelow writes a file and makes its directory.
func writeBelow(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, data, 0o644)
}

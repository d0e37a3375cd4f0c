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
	// Include is what the pipeline includes in place of a template that is written into the project: of
	// GitLab the path of a file in the project, PROJECT@REF:PATH or a URL; of GitHub
	// OWNER/REPOSITORY/PATH@REF or the path of a file.
	Include string
	// GitHub makes a workflow of GitHub.
	GitHub bool
	// Force replaces a pipeline that this program did not make.
	Force bool
	// Template returns the path in the project and the text of a template by its name without ending.
	Template func(name string) (path string, text []byte, err error)
}

// made is the first line of the files that Install makes, by which it knows them again.
const made = "# Made by pvci device install from " + ConfigName + "; run it again when that changes."

const (
	gitLabFile = ".gitlab-ci.yml"
	gitHubFile = ".github/workflows/devices.yml"
)

const deviceLines = `
#
# Devices:
{{- range .Devices}}
#   {{.ID}}: {{.Schedule}} -> {{.Tag}}
{{- end}}
`

var gitLabText = template.Must(template.New(gitLabFile).Funcs(quoting).Parse(made + deviceLines + `include:
{{- if .Project}}
  - project: {{quote .Project}}
    ref: {{quote .Ref}}
    file: {{quote .File}}
{{- else if .Remote}}
  - remote: {{quote .Remote}}
{{- else}}
  - local: {{quote .File}}
{{- end}}
`))

var gitHubText = template.Must(template.New(gitHubFile).Funcs(quoting).Parse(made + deviceLines + `name: devices
on:
  schedule:
    - cron: "0 2 * * *"
  workflow_dispatch:
  push:
    tags: ["*"]
permissions:
  contents: write
jobs:
  devices:
    uses: {{quote .File}}
    secrets: inherit
`))

var quoting = template.FuncMap{
	// A text of JSON is one of YAML, too.
	"quote": func(text string) (string, error) {
		out, err := json.Marshal(text)
		return string(out), err
	},
}

// include is what a pipeline includes.
type include struct {
	Project, Ref, File, Remote string
	Devices                    []Device
	path                       string // of the template to be written; "" for none
	text                       []byte
}

func (o *InstallOptions) include(c *Config) (*include, error) {
	in := &include{Devices: c.Devices, File: o.Include}
	name, ref, at := strings.Cut(o.Include, "@")
	switch {
	case o.Include == "":
		var err error
		if in.path, in.text, err = o.Template(strings.TrimSuffix(c.Template, ".yml")); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "yml_template of %s", ConfigName)
		}
		in.File = "/" + in.path
		if o.GitHub {
			in.File = "./" + in.path
		}
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

// Install makes the pipeline of a project from its device-ci.conf.json, with the template that it
// includes, and returns the paths of both below the project. The same devices make the same files.
func (o InstallOptions) Install(_ context.Context) ([]string, error) {
	c, err := Load(o.Dir)
	if err != nil {
		return nil, err
	}
	if len(c.Devices) == 0 {
		return nil, fault.New(fault.BadInput, "%s: device_list is empty; a pipeline needs a device", ConfigName)
	}
	in, err := o.include(c)
	if err != nil {
		return nil, err
	}
	name, text := gitLabFile, gitLabText
	if o.GitHub {
		name, text = gitHubFile, gitHubText
	}
	var b bytes.Buffer
	if err := text.Execute(&b, in); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "making %s", name)
	}
	path := filepath.Join(o.Dir, filepath.FromSlash(name))
	old, err := bounded.ReadRegular(path, maxPEM)
	switch {
	case err == nil && !bytes.HasPrefix(old, []byte(made)) && !o.Force:
		return nil, fault.New(fault.BadInput, "%s exists and was not made by pvci device install: --force replaces it", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fault.Wrap(fault.IO, err, "reading %s", name)
	}
	names := []string{name}
	if in.path != "" {
		names = append(names, in.path)
		if err := writeBelow(filepath.Join(o.Dir, filepath.FromSlash(in.path)), in.text); err != nil {
			return nil, fault.Wrap(fault.IO, err, "writing %s", in.path)
		}
	}
	if err := writeBelow(path, b.Bytes()); err != nil {
		return nil, fault.Wrap(fault.IO, err, "writing %s", name)
	}
	return names, nil
}

// writeBelow writes a file and makes its directory.
func writeBelow(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, data, 0o644)
}

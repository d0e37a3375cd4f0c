// Package ci has the templates of pipelines, for GitLab and GitHub (docs/pipelines.md). They only call
// mage and pvci, whose version is that of the project's go.mod, and are copied into a project with it:
// a pipeline reads nothing from another server than its own.
package ci

import (
	"embed"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

//go:embed gitlab github
var files embed.FS

// Template is a pipeline.
type Template struct {
	// Name is the file's name without its ending.
	Name string `json:"name"`
	// What says what it does.
	What string `json:"what"`
	// Variables are those of the environment that it reads, besides the pipeline's own.
	Variables []Variable `json:"variables"`
}

// Variable is a variable that a template reads.
type Variable struct {
	Name      string `json:"name"`
	What      string `json:"what"` // what it is for
	Mandatory bool   `json:"mandatory,omitempty"`
	Secret    bool   `json:"secret,omitempty"`
}

var hub = []Variable{
	{Name: "PHUSER", What: "account of the Hub that owns the devices", Secret: true},
	{Name: "PHPASS", What: "its password", Secret: true},
}

var bucket = []Variable{
	{Name: "AWS_ACCESS_KEY_ID", What: "account of the bucket", Secret: true},
	{Name: "AWS_SECRET_ACCESS_KEY", What: "its key", Secret: true},
}

// Templates lists the templates by name.
func Templates() []Template {
	return []Template{
		{"bsp-ci", "builds BSPs and posts them to devices", append(hub[:2:2],
			Variable{Name: "TARGET", What: "target to build", Mandatory: true},
			Variable{Name: "PLATFORM", What: "name of the platform"},
			Variable{Name: "PH_TARGET_DEVICE_LATEST", What: "device of pushes, schedules and manual runs"},
			Variable{Name: "PH_TARGET_DEVICE_STABLE", What: "device of tags"})},
		{"container-ci", "builds and publishes the packages of a container", append(bucket[:2:2],
			Variable{Name: "STORE", What: "where packages go"},
			Variable{Name: "PVR_SIG_KEY", What: "file of the key that signs packages", Secret: true},
			Variable{Name: "PVR_REGISTRY_USERNAME", What: "account of the registry of images", Secret: true},
			Variable{Name: "PVR_REGISTRY_PASSWORD", What: "its password", Secret: true})},
		{"product", "builds, boots and tests the image of a product", []Variable{
			{Name: "TARGET", What: "target of the product", Mandatory: true},
			{Name: "COMMENT_TOKEN", What: "token for comments in merge requests of GitLab", Secret: true},
			{Name: "PV_VULN_DATA", What: "vulnerability data"},
			{Name: "FAIL_ON", What: "which vulnerabilities fail the job"},
		}},
		{"pvdeps-ci", "builds BSPs of generic targets with a project's content and posts them", append(hub[:2:2],
			Variable{Name: "ARTIFACT", What: "generic targets", Mandatory: true},
			Variable{Name: "PH_TARGET_DEVICE", What: "their devices", Mandatory: true},
			Variable{Name: "BSP_PROJECT", What: "repository with the targets"})},
		{"update-ci", "keeps devices up to date, and promotes them to images", append(append(hub[:2:2], bucket...),
			Variable{Name: "PH_CIBOT_EMAIL", What: "whose commits of recipes they are", Mandatory: true},
			Variable{Name: "PH_CIBOT_GITLAB_USER", What: "account of GitLab that pushes them"},
			Variable{Name: "PH_CIBOT_GITLAB_TOKEN", What: "its token", Secret: true},
			Variable{Name: "AWS_BUCKET", What: "bucket for images"},
			Variable{Name: "AWS_PROJECT_PATH", What: "directory in the bucket"},
			Variable{Name: "DEPLOY_TRIGGER_PROJECT", What: "project of GitLab to be triggered"},
			Variable{Name: "DEPLOY_TRIGGER_TOKEN", What: "its trigger token", Secret: true})},
	}
}

// Find returns a template by its name.
func Find(name string) (Template, error) {
	var names []string
	for _, t := range Templates() {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return Template{}, spelling.Unknown("template", name, names)
}

// System is what runs pipelines.
type System string

// The systems that there are templates for.
const (
	GitLab System = "gitlab"
	GitHub System = "github"
)

// Systems lists them.
func Systems() []System { return []System{GitLab, GitHub} }

// Path returns where a project has a template, with slashes.
func (s System) Path(template string) string {
	if s == GitHub {
		return ".github/workflows/" + template + ".yml" // the only place of workflows that others call
	}
	return ".gitlab/" + template + ".yml"
}

// Text returns the text of a template.
func (s System) Text(template string) ([]byte, error) {
	if _, err := Find(template); err != nil {
		return nil, err
	}
	if s != GitHub && s != GitLab {
		return nil, spelling.Unknown("system", string(s), []string{string(GitLab), string(GitHub)})
	}
	text, err := files.ReadFile(string(s) + "/" + template + ".yml")
	return text, fault.Wrap(fault.Internal, err, "reading the template %s of %s", template, s)
}

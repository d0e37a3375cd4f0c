package options

import (
	"cmp"
	"slices"
)

// Pipeline is where the source of a build comes from, for bsp/build.json. Members are empty
// outside of a pipeline.
type Pipeline struct {
	// Project is the path of the repository, Branch its branch or tag, Commit its SHA.
	Project, Branch, Commit string
	// ID is the number of the pipeline.
	ID string
}

// pipeline reads the predefined variables of GitLab CI/CD and of GitHub Actions.
func (r *reader) pipeline() Pipeline {
	either := func(gitlab, github string) string { return cmp.Or(r.values[gitlab], r.values[github]) }
	return Pipeline{
		Project: either("CI_PROJECT_PATH", "GITHUB_REPOSITORY"),
		Branch:  either("CI_COMMIT_REF_NAME", "GITHUB_REF_NAME"),
		Commit:  either("CI_COMMIT_SHA", "GITHUB_SHA"),
		ID:      either("CI_PIPELINE_ID", "GITHUB_RUN_ID"),
	}
}

// replaced are variables of the earlier build system that have no effect, with what
// replaces them (docs/migration.md).
var replaced = map[string]string{
	"PV_BUILD_PANTAVISOR_BUILDER_PREFIX":  "no builder container is used; a mirror of Debian is set in /etc/apt, one of Go modules by GOPROXY",
	"PV_BUILD_PANTAVISOR_BUILDER_VERSION": "no builder container is used; go.mod pins the tools, parts.lock the packages",
	"PV_BUILD_TLS_USE_HOST_CACERTS":       "the build runs on the host and trusts what the host trusts; SSL_CERT_FILE names another file for Go",
}

// notes returns a line for each variable that something else replaces.
func (r *reader) notes() []string {
	var out []string
	for name, instead := range replaced {
		if r.values[name] != "" {
			out = append(out, "environment variable "+name+": has no effect: "+instead)
		}
	}
	// make sets MAKEFLAGS for the commands that it runs; then it is not the user's.
	if r.values["MAKEFLAGS"] != "" && r.values["MAKELEVEL"] == "" {
		out = append(out, "environment variable MAKEFLAGS: has no effect: PV_JOBS=N replaces -jN, --events=- replaces V=s")
	}
	slices.Sort(out)
	return out
}

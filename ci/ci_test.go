package ci

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// TestFiles expects a file for each template and system, and no other.
func TestFiles(t *testing.T) {
	t.Parallel()
	for _, s := range Systems() {
		var want []string
		for _, one := range Templates() {
			want = append(want, one.Name+".yml")
			if text, err := s.Text(one.Name); err != nil || len(text) == 0 {
				t.Errorf("%s of %s: %v", one.Name, s, err)
			}
		}
		entries, err := os.ReadDir(string(s))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", s, got, want)
		}
	}
	if _, err := System("jenkins").Text("product"); err == nil {
		t.Error("a template of another system")
	}
}

// TestVariables expects that the head of GitLab's templates explains each variable, and that no line of a
// script has a secret in it: what a shell is given, a trace of it shows.
func TestVariables(t *testing.T) {
	t.Parallel()
	for _, one := range Templates() {
		text, err := GitLab.Text(one.Name)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(text), "\nvariables:")
		for _, v := range one.Variables {
			if !strings.Contains(head, v.Name) {
				t.Errorf("the head of gitlab/%s.yml does not explain %s", one.Name, v.Name)
			}
		}
		for _, s := range Systems() {
			for _, line := range scripts(t, s, one.Name) {
				for _, v := range one.Variables {
					if v.Secret && v.Name != "PVR_SIG_KEY" && regexp.MustCompile(`\$\{?`+v.Name+`\b`).MatchString(line) {
						t.Errorf("%s/%s.yml has the secret %s in a command: %s", s, one.Name, v.Name, line)
					}
				}
				if strings.Contains(line, "${{") {
					t.Errorf("%s/%s.yml has an expression in a command, where a name may be a command of its own: %s", s, one.Name, line)
				}
				if strings.Contains(line, "set -x") {
					t.Errorf("%s/%s.yml traces its commands: %s", s, one.Name, line)
				}
			}
		}
	}
}

// scripts returns all commands of a template.
func scripts(t *testing.T, s System, name string) []string {
	t.Helper()
	var out []string
	if s == GitHub {
		for _, j := range workflow(t, name).Jobs {
			for _, step := range j.Steps {
				if step.Run != "" {
					out = append(out, step.Run)
				}
			}
		}
		return out
	}
	for _, j := range pipeline(t, name) {
		out = append(append(out, j.BeforeScript...), j.Script...)
	}
	return out
}

// githubWorkflow is what the tests read of a workflow.
type githubWorkflow struct {
	On struct {
		Call struct {
			Inputs map[string]struct {
				Default string `yaml:"default"`
			} `yaml:"inputs"`
		} `yaml:"workflow_call"`
	} `yaml:"on"`
	Jobs map[string]struct {
		Env   map[string]string `yaml:"env"`
		Steps []githubStep      `yaml:"steps"`
	} `yaml:"jobs"`
}

type githubStep struct {
	Name string            `yaml:"name"`
	If   string            `yaml:"if"`
	Run  string            `yaml:"run"`
	Uses string            `yaml:"uses"`
	Env  map[string]string `yaml:"env"`
}

func workflow(t *testing.T, name string) githubWorkflow {
	t.Helper()
	text, err := GitHub.Text(name)
	if err != nil {
		t.Fatal(err)
	}
	var w githubWorkflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		t.Fatalf("github/%s.yml: %v", name, err)
	}
	return w
}

// gitlabJob is what the tests read of a job.
type gitlabJob struct {
	Extends      string            `yaml:"extends"`
	Variables    map[string]string `yaml:"variables"`
	BeforeScript []string          `yaml:"before_script"`
	Script       []string          `yaml:"script"`
}

// pipeline returns the jobs of a template, with what they extend.
func pipeline(t *testing.T, name string) map[string]gitlabJob {
	t.Helper()
	text, err := GitLab.Text(name)
	if err != nil {
		t.Fatal(err)
	}
	return jobs(t, text)
}

func jobs(t *testing.T, text []byte) map[string]gitlabJob {
	t.Helper()
	var all map[string]yaml.MapSlice
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var global map[string]string
	out := map[string]gitlabJob{}
	for name, raw := range all {
		data, err := yaml.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		if name == "variables" {
			err = yaml.Unmarshal(data, &global)
		} else {
			var j gitlabJob
			err = yaml.Unmarshal(data, &j)
			out[name] = j
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, j := range out {
		merged := map[string]string{}
		chain := []gitlabJob{{Variables: global}}
		var above []gitlabJob
		for one := j; ; one = out[one.Extends] {
			above = append(above, one)
			if one.Extends == "" {
				break
			}
		}
		slices.Reverse(above)
		for _, one := range append(chain, above...) {
			for k, v := range one.Variables {
				merged[k] = v
			}
			if one.BeforeScript != nil {
				j.BeforeScript = one.BeforeScript
			}
			if one.Script != nil {
				j.Script = one.Script
			}
		}
		j.Variables = merged
		out[name] = j
	}
	return out
}

// TestGitHubReadsThem has actionlint judge the workflows, and shellcheck the commands in them.
func TestGitHubReadsThem(t *testing.T) {
	t.Parallel()
	oracle.Program(t, "shellcheck")
	const mod = "../.ci/actionlint/go.mod"
	if _, err := os.Stat(mod); errors.Is(err, os.ErrNotExist) {
		t.Skip("the sources of this module are without .ci/actionlint")
	}
	args := []string{"tool", "-modfile=" + mod, "actionlint"}
	for _, one := range Templates() {
		args = append(args, "github/"+one.Name+".yml")
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The package gitlab-ci-local of npm reads pipelines as GitLab does: includes, rules, GitLab's schema.
const (
	gitlabLocal       = "gitlab-ci-local@4.75.1"
	gitlabLocalDigest = "ArmGX576uKqTgs4PMCH3FNPED+JhxDLb2Ocb893+aY88RA2sx9gP6L7GvpuHQJkFJRvA5KSq9fD0yyRLaLEydw=="
)

// sets has what the package uses of newer versions of Node than 20.
const sets = `Set.prototype.union ??= function (o) { return new Set([...this, ...o]); };
Set.prototype.intersection ??= function (o) { return new Set([...this].filter((x) => o.has(x))); };
Set.prototype.difference ??= function (o) { return new Set([...this].filter((x) => !o.has(x))); };
`

// uses are files that include a template, with the jobs that are in the list then.
var uses = map[string]struct {
	text string
	jobs []string
}{
	"product":      {"variables:\n  TARGET: x64-uefi\n", []string{"build", "boot", "test"}},
	"container-ci": {"", []string{"build-packages"}},
	"update-ci":    {"", nil}, // none for pushes
	"pvdeps-ci":    {"variables:\n  ARTIFACT: x64-generic\n  PH_TARGET_DEVICE: ./device\n", []string{"build-generic"}},
	"bsp-ci": {"build-pc:\n  extends: .build-bsp\n  variables:\n    PLATFORM: pc\n    TARGET: x64-uefi\n    PH_TARGET_DEVICE_LATEST: ./latest\n    PH_TARGET_DEVICE_STABLE: ./stable\n",
		[]string{"build-pc"}},
}

func TestGitLabReadsThem(t *testing.T) {
	t.Parallel()
	node := oracle.Program(t, "node")
	version, err := exec.CommandContext(t.Context(), node, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < 20 {
		t.Skipf("%s wants Node 20, this is %s", gitlabLocal, version)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "sets.mjs"), sets)
	put(t, filepath.Join(dir, "index.mjs"), string(oracle.NPM(t, gitlabLocal, gitlabLocalDigest, "dist/index.js")))
	put(t, filepath.Join(dir, "package.json"), string(oracle.NPM(t, gitlabLocal, gitlabLocalDigest, "package.json")))
	for name, use := range uses {
		project := filepath.Join(dir, name)
		text, err := GitLab.Text(name)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(project, GitLab.Path(name)), string(text))
		put(t, filepath.Join(project, ".gitlab-ci.yml"), "include:\n  - local: "+GitLab.Path(name)+"\n"+use.text)
		commit(t, project)
		git(t, project, "remote", "add", "origin", "git@gitlab.example.test:team/project.git")
		git(t, project, "update-ref", "refs/remotes/origin/main", "HEAD")
		git(t, project, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
		cmd := exec.CommandContext(t.Context(), node, "--import", filepath.Join(dir, "sets.mjs"), filepath.Join(dir, "index.mjs"), "--list-csv")
		cmd.Dir = project
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			errors.As(err, &exit)
			t.Errorf("gitlab/%s.yml: %v\n%s%s", name, err, out, exit.Stderr)
			continue
		}
		for _, job := range use.jobs {
			if !strings.Contains("\n"+string(out), "\n"+job+";") {
				t.Errorf("gitlab/%s.yml: no job %s in\n%s", name, job, out)
			}
		}
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.test", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.test")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes a repository of a directory, with everything in it.
func commit(t *testing.T, dir string) {
	t.Helper()
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "first")
}

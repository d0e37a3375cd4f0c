package ci

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// secretValues are what the runs are given as secrets; no output may have one.
var secretValues = map[string]string{
	"PHUSER": "user-horse", "PHPASS": "pass-horse", "AWS_ACCESS_KEY_ID": "access-horse", "AWS_SECRET_ACCESS_KEY": "secret-horse",
	"PVR_REGISTRY_USERNAME": "name-horse", "PVR_REGISTRY_PASSWORD": "word-horse", "PH_CIBOT_GITLAB_TOKEN": "bot-horse",
	"DEPLOY_TRIGGER_TOKEN": "trigger-horse", "COMMENT_TOKEN": "comment-horse",
}

// mageStandIn is a mage that says what it was called with, and makes files where a target's results are.
// Images take minutes, and test/product builds and boots them.
const mageStandIn = `#!/bin/sh
echo "mage $*" >> "$CALLS"
command=$1 target=$2 out=out
for word; do
	case $word in
	--out=*) out=${word#--out=} ;;
	--artefacts=*) artefacts=${word#--artefacts=} ;;
	--junit=*) echo "<testsuites/>" > "${word#--junit=}" ;;
	--html=*) echo "<html/>" > "${word#--html=}" ;;
	esac
done
case $command in
build)
	mkdir -p "$out/$target"
	echo "image of $(git rev-parse HEAD)" > "$out/$target/$target.img"
	cp "$EXPORT" "$out/$target/$target.pvr.tgz"
	printf '{"recipe": {"lock": "packages: []\n"}}' | sed 's/$/\\n/;$s/\\n$//' > "$out/$target/report.json"
	if [ -n "$artefacts" ]; then
		printf '{"target": "%s", "directory": "%s", "artefacts": [{"path": "%s.pvr.tgz"}]}\n' "$target" "$(cd "$out/$target" && pwd)" "$target" > "$artefacts"
	fi ;;
diff) cmp -s "$3" "out/$target/$target.img"; exit 11 ;;
esac
`

// pvci returns the program of this module, which is compiled once.
var pvci = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pvci-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "pvci")
	out, err := exec.Command("go", "build", "-o", program, "../cmd/pvci").CombinedOutput()
	if err != nil {
		return string(out), err
	}
	return program, nil
})

// TestMain removes what [pvci] has made.
func TestMain(m *testing.M) {
	code := m.Run()
	if program, err := pvci(); err == nil {
		_ = os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// runner runs the commands of jobs in a clone of a project.
type runner struct {
	t     *testing.T
	clone string
	calls string // file with what the stand-in was called with
	env   map[string]string
	said  strings.Builder
}

// newRunner clones a project.
func newRunner(t *testing.T, project string, env map[string]string) *runner {
	t.Helper()
	program, err := pvci()
	if err != nil {
		t.Fatalf("%v: %s", err, program)
	}
	top := t.TempDir()
	r := &runner{t: t, clone: filepath.Join(top, "clone"), calls: filepath.Join(top, "calls"), env: map[string]string{}}
	git(t, top, "clone", "-q", project, r.clone)
	put(t, filepath.Join(top, "mage"), mageStandIn)
	if err := os.Chmod(filepath.Join(top, "mage"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, r.calls, "")
	// Lists of packages are the machine's.
	put(t, filepath.Join(top, "bin/apt-get"), "#!/bin/sh\nexit 0\n")
	if err := os.Chmod(filepath.Join(top, "bin/apt-get"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"GOROOT", "GOMODCACHE", "GOPROXY", "GOFLAGS"} {
		if v := os.Getenv(name); v != "" {
			r.env[name] = v
		}
	}
	maps.Copy(r.env, map[string]string{
		"PATH": filepath.Join(top, "bin") + ":" + os.Getenv("PATH"), "HOME": filepath.Join(top, "home"), "CALLS": r.calls, "EXPORT": "/dev/null",
	})
	if err := os.Mkdir(r.env["HOME"], 0o755); err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.env, secretValues)
	maps.Copy(r.env, env)
	return r
}

// tools are the variables that name the commands.
func (r *runner) tools() map[string]string {
	program, _ := pvci()
	return map[string]string{"PVCI": program, "MAGE": filepath.Join(filepath.Dir(r.calls), "mage")}
}

// sh runs lines as one script, as runners do.
func (r *runner) sh(lines string, env map[string]string) error {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		words = append(words, k+"="+env[k])
	}
	cmd := exec.CommandContext(r.t.Context(), "sh", "-e", "-c", lines)
	cmd.Dir, cmd.Env = r.clone, words
	out, err := cmd.CombinedOutput()
	r.said.Write(out)
	for _, value := range secretValues {
		if strings.Contains(string(out), value) {
			r.t.Errorf("a secret is in the log:\n%s", out)
		}
	}
	return err
}

var word = regexp.MustCompile(`\$([A-Z_]+)`)

// gitlab runs a job of a pipeline.
func (r *runner) gitlab(text, job string, env map[string]string) error {
	r.t.Helper()
	j, ok := jobs(r.t, []byte(text))[job]
	if !ok {
		r.t.Fatalf("there is no job %s", job)
	}
	all := maps.Clone(r.env)
	maps.Copy(all, map[string]string{"GITLAB_CI": "true", "CI": "true", "CI_PROJECT_DIR": r.clone})
	for k, v := range j.Variables {
		if r.env[k] == "" { // GOMODCACHE: modules of this machine
			all[k] = word.ReplaceAllStringFunc(v, func(w string) string { return all[w[1:]] })
		}
	}
	maps.Copy(all, r.tools())
	maps.Copy(all, env)
	return r.sh(strings.Join(append(slices.Clone(j.BeforeScript), j.Script...), "\n"), all)
}

var expression = regexp.MustCompile(`\$\{\{ (\w+)\.([\w.-]+) \}\}`)

// github runs the steps of a workflow's only job; which reports whether a step with a condition is run.
func (r *runner) github(name string, inputs, env map[string]string, which func(condition string) bool) error {
	r.t.Helper()
	w := workflow(r.t, name)
	value := func(text string) string {
		return expression.ReplaceAllStringFunc(text, func(e string) string {
			m := expression.FindStringSubmatch(e)
			switch m[1] {
			case "inputs":
				if v, ok := inputs[m[2]]; ok {
					return v
				}
				return w.On.Call.Inputs[m[2]].Default
			case "secrets":
				return secretValues[m[2]]
			}
			return env[e]
		})
	}
	all := maps.Clone(r.env)
	for k := range secretValues { // a step has those only that it names
		delete(all, k)
	}
	file := filepath.Join(filepath.Dir(r.calls), "github.env")
	put(r.t, file, "")
	maps.Copy(all, map[string]string{"GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_WORKSPACE": r.clone, "GITHUB_ENV": file})
	for _, j := range w.Jobs {
		for k, v := range j.Env {
			all[k] = value(v)
		}
		for _, s := range j.Steps {
			if s.Run == "" || s.If != "" && !which(s.If) {
				continue
			}
			one := maps.Clone(all)
			set, err := os.ReadFile(file)
			if err != nil {
				r.t.Fatal(err)
			}
			for line := range strings.Lines(string(set)) {
				k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
				if r.env[k] == "" {
					one[k] = v
				}
			}
			for k, v := range s.Env {
				one[k] = value(v)
			}
			maps.Copy(one, r.tools())
			maps.Copy(one, env)
			if err := r.sh(s.Run, one); err != nil {
				return err
			}
		}
	}
	return nil
}

// called are the stand-in's calls.
func (r *runner) called() string {
	data, err := os.ReadFile(r.calls)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// project makes a repository with two commits and returns its directory and the first commit.
func project(t *testing.T, files map[string]string) (dir, first string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(dir, name), text)
	}
	commit(t, dir)
	first = git(t, dir, "rev-parse", "HEAD")
	put(t, filepath.Join(dir, "changed"), "x")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "second")
	return dir, first
}

func template(t *testing.T, s System, name string) string {
	t.Helper()
	text, err := s.Text(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// expect compares the calls of the stand-in, in which directories are words.
func (r *runner) expect(what string, want ...string) {
	r.t.Helper()
	got := strings.NewReplacer(r.clone, "CLONE").Replace(r.called())
	if got != strings.Join(want, "\n")+"\n" {
		r.t.Errorf("%s: mage was called with\n%swant\n%s\n\n%s", what, got, strings.Join(want, "\n"), r.said.String())
	}
}

// exists checks files of the clone.
func (r *runner) exists(names ...string) {
	r.t.Helper()
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(r.clone, name)); err != nil {
			r.t.Errorf("%v\n%s", err, r.said.String())
		}
	}
}

func TestProductRuns(t *testing.T) {
	t.Parallel()
	dir, first := project(t, map[string]string{"targets/board/target.yaml": "base: x64-uefi\n"})
	image := "mage diff base/board/board.img board --markdown"
	r := newRunner(t, dir, map[string]string{"TARGET": "board", "PV_VULN_DATA": "vulns"})
	text := template(t, GitLab, "product")
	for _, job := range []string{"build", "boot", "test", "appengine", "diff", "verify", "vulns"} {
		if err := r.gitlab(text, job, map[string]string{"CI_MERGE_REQUEST_DIFF_BASE_SHA": first}); err != nil {
			t.Fatalf("%s: %v\n%s", job, err, r.said.String())
		}
	}
	calls := []string{
		"mage build board --locked --artefacts=artefacts.json", "mage size board --html=size.html",
		"mage run board --locked --json --junit=boot.xml --logs=logs", "mage test", "mage appengine:run --junit=appengine.xml",
		"mage build board --locked --out=CLONE/base", image, "mage verify board --json",
		"mage vulns board --fail-on=affected --markdown",
	}
	r.expect("gitlab", calls...)
	r.exists("artefacts.json", "boot.xml", "appengine.xml", "diff.md", "verify.json", "vulns.md", "size.html")
	if base, err := os.ReadFile(filepath.Join(r.clone, "base/board/board.img")); err != nil || string(base) != "image of "+first+"\n" {
		t.Errorf("the base is %q, %v", base, err)
	}
	if !strings.Contains(r.said.String(), "no comment diff: the pipeline is not of a merge request") {
		t.Errorf("no word about the comment:\n%s", r.said.String())
	}
	r = newRunner(t, dir, nil)
	err := r.github("product", map[string]string{"target": "board", "vuln-data": "vulns"},
		map[string]string{"BASE": first}, func(string) bool { return true })
	if err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	r.expect("github", calls...)
}

// TestFailuresAreSeen expects that a job fails with the exit code of its command.
func TestFailuresAreSeen(t *testing.T) {
	t.Parallel()
	dir, first := project(t, map[string]string{"targets/board/target.yaml": "base: x64-uefi\n"})
	text := template(t, GitLab, "product")
	for _, command := range []string{"build", "run", "diff", "vulns", "verify", "test", "appengine:run"} {
		job := map[string]string{"run": "boot", "appengine:run": "appengine"}[command]
		if job == "" {
			job = command
		}
		r := newRunner(t, dir, map[string]string{"TARGET": "board"})
		put(t, filepath.Join(filepath.Dir(r.calls), "mage"), strings.Replace(mageStandIn, "command=$1", `[ "$1" != `+command+` ] || exit 13; command=$1`, 1))
		err := r.gitlab(text, job, map[string]string{"CI_MERGE_REQUEST_DIFF_BASE_SHA": first})
		if err == nil || err.Error() != "exit status 13" {
			t.Errorf("%s: %v\n%s", job, err, r.said.String())
		}
	}
}

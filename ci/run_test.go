package ci

import (
	"cmp"
	"errors"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/repo"
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
	echo '{"recipe": {"lock": "packages: []"}}' > "$out/$target/report.json"
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
		r.t.Fatalf("the template has no job %s", job)
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
		"mage run board --locked --json --junit=boot.xml --logs=logs", "mage test --junit=tests.xml", "mage appengine:run --junit=appengine.xml",
		"mage build board --locked --out=CLONE/base", image, "mage verify board --json",
		"mage vulns board --fail-on=affected --markdown",
	}
	r.expect("gitlab", calls...)
	r.exists("artefacts.json", "boot.xml", "tests.xml", "appengine.xml", "diff.md", "verify.json", "vulns.md", "size.html")
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

// export writes an export of a BSP.
func export(t *testing.T, file, version string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"run.json": `{"linux":"kernel.img","initrd":"pantavisor"}`, "build.json": `{"gitdescribe":"` + version + `"}`, "src.json": "{}",
		"kernel.img": "kernel " + version, "pantavisor": "initrd " + version,
	} {
		put(t, filepath.Join(dir, "bsp", name), text)
	}
	if err := repo.Init(dir, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), dir, repo.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Add(t.Context(), []string{"."}, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context(), repo.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Export(t.Context(), f, archive.ExportOptions{Gzip: true}), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// has expects the release of the BSP that the device in a directory has; "" for no device.
func has(t *testing.T, device, version string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(device, ".pvr/json"))
	if version == "" {
		if err == nil {
			t.Errorf("the device %s exists", device)
		}
		return
	}
	if err != nil || !strings.Contains(string(text), `"`+version+`"`) {
		t.Errorf("%s has not the BSP %s: %v\n%s", device, version, err, text)
	}
}

func TestBSPRuns(t *testing.T) {
	t.Parallel()
	dir, _ := project(t, map[string]string{"targets/board/target.yaml": "base: x64-uefi\n", "default.xml": "<manifest><project name='kernel' revision='v6'/></manifest>"})
	devices := t.TempDir()
	file, latest, stable := filepath.Join(devices, "bsp.tgz"), filepath.Join(devices, "latest"), filepath.Join(devices, "stable")
	export(t, file, "019")
	env := map[string]string{"EXPORT": file}
	text := template(t, GitLab, "bsp-ci") + "\nbuild-pc:\n  extends: .build-bsp\n  variables:\n    PLATFORM: pc\n    TARGET: board\n" +
		"    PH_TARGET_DEVICE_LATEST: " + latest + "\n    PH_TARGET_DEVICE_STABLE: " + stable + "\n"
	r := newRunner(t, dir, env)
	if err := r.gitlab(text, "build-pc", nil); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	r.expect("gitlab", "mage build board --locked --artefacts=artefacts.json")
	has(t, latest, "019")
	has(t, stable, "")
	record, err := os.ReadFile(filepath.Join(r.clone, "bsp-manifest.json"))
	if err != nil || !strings.Contains(string(record), `"revision": "v6"`) || !strings.Contains(string(record), `"platform": "pc"`) {
		t.Errorf("%v: %s", err, record)
	}
	if err := r.gitlab(text, "build-pc", map[string]string{"CI_COMMIT_TAG": "1.0"}); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	has(t, stable, "019")
	export(t, file, "020")
	r = newRunner(t, dir, env)
	inputs := map[string]string{"platform": "pc", "target": "board", "latest": latest, "stable": stable}
	if err := r.github("bsp-ci", inputs, nil, func(string) bool { return true }); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	has(t, latest, "020")
	has(t, stable, "019")
	if err := r.github("bsp-ci", inputs, map[string]string{"GITHUB_REF_TYPE": "tag"}, func(string) bool { return true }); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	has(t, stable, "020")
}

// TestDependencyRuns builds with a dependency's content, in the dependency's own project and in another one.
func TestDependencyRuns(t *testing.T) {
	t.Parallel()
	dir, _ := project(t, map[string]string{"go.mod": "module example.com/library\n\ngo 1.26\n", "library.go": "package library\n"})
	bsps, _ := project(t, map[string]string{
		"go.mod": "module example.com/bsps\n\ngo 1.26\n\nrequire example.com/library v1.0.0\n", "main.go": "package bsps\n\nimport _ \"example.com/library\"\n",
	})
	devices := t.TempDir()
	file := filepath.Join(devices, "bsp.tgz")
	export(t, file, "019")
	for _, where := range []string{"", bsps} {
		pc, arm := filepath.Join(devices, "pc"+filepath.Base(where)), filepath.Join(devices, "arm"+filepath.Base(where))
		env := map[string]string{"EXPORT": file, "ARTIFACT": "x64-generic arm-generic", "PH_TARGET_DEVICE": pc + " " + arm, "BSP_PROJECT": where, "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
		r := newRunner(t, dir, env)
		if err := r.gitlab(template(t, GitLab, "pvdeps-ci"), "build-generic", nil); err != nil {
			t.Fatalf("%v\n%s", err, r.said.String())
		}
		r.expect("gitlab", "mage build x64-generic --locked --artefacts=CLONE/artefacts-x64-generic.json",
			"mage build arm-generic --locked --artefacts=CLONE/artefacts-arm-generic.json")
		has(t, pc, "019")
		has(t, arm, "019")
		mod, err := os.ReadFile(filepath.Join(r.clone, "bsp/go.mod"))
		if err != nil || strings.Contains(string(mod), "example.com/library => "+r.clone) != (where != "") {
			t.Errorf("%q: %v\n%s", where, err, mod)
		}
		r = newRunner(t, dir, env)
		inputs := map[string]string{"artifact": env["ARTIFACT"], "devices": env["PH_TARGET_DEVICE"], "bsp-project": where}
		if err := r.github("pvdeps-ci", inputs, nil, func(string) bool { return true }); err != nil {
			t.Fatalf("%v\n%s", err, r.said.String())
		}
		if !strings.Contains(r.said.String(), "has the BSP of x64-generic already") {
			t.Errorf("the second run:\n%s", r.said.String())
		}
	}
}

// TestDevicesRun updates and promotes a device that is a directory; nothing has changed since.
func TestDevicesRun(t *testing.T) {
	t.Parallel()
	places := t.TempDir()
	file, latest, stable := filepath.Join(places, "bsp.tgz"), filepath.Join(places, "latest"), filepath.Join(places, "stable")
	export(t, file, "019")
	dir, _ := project(t, map[string]string{
		"device-ci.conf.json": `{"yml_template": "update-ci.yml", "device_list": [{"id": "pc", "schedule": "` + latest + `", "tag": "` + stable + `"}]}`, ".gitignore": ".pvci/\n.cache/\n",
	})
	bare := filepath.Join(places, "origin.git")
	git(t, places, "clone", "-q", "--bare", dir, bare)
	r := newRunner(t, bare, map[string]string{"EXPORT": file, "PH_CIBOT_EMAIL": "bot@example.test", "PH_CIBOT_GITLAB_USER": "bot", "DEPLOY_TRIGGER_TOKEN": ""})
	seed := "build-pc:\n  extends: .build-bsp\n  variables:\n    TARGET: board\n    PLATFORM: pc\n    PH_TARGET_DEVICE_LATEST: " + latest + "\n    PH_TARGET_DEVICE_STABLE: x\n"
	if err := r.gitlab(template(t, GitLab, "bsp-ci")+"\n"+seed, "build-pc", nil); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	text := template(t, GitLab, "update-ci")
	r = newRunner(t, bare, r.env)
	if err := r.gitlab(text, "update-devices", map[string]string{"CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"}); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	if got := git(t, bare, "log", "-1", "--format=%s", "main"); got != "recipes: update pc" {
		t.Errorf("the newest commit is %q\n%s", got, r.said.String())
	}
	git(t, bare, "tag", "1.0", "main")
	r = newRunner(t, bare, r.env)
	if err := r.gitlab(text, "promote-devices", map[string]string{"CI_COMMIT_TAG": "1.0"}); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	has(t, stable, "019")
	r = newRunner(t, bare, r.env)
	for _, run := range []struct{ step, tag string }{{"Update", ""}, {"Promote", "1.0"}} {
		kind := map[bool]string{true: "tag", false: "branch"}[run.tag != ""]
		env := map[string]string{"GITHUB_REF_TYPE": kind, "GITHUB_REF_NAME": cmp.Or(run.tag, "main")}
		err := r.github("update-ci", map[string]string{"bot-email": "bot@example.test"}, env, func(condition string) bool {
			return strings.Contains(condition, "tag") == (run.tag != "")
		})
		if err != nil {
			t.Fatalf("%s: %v\n%s", run.step, err, r.said.String())
		}
	}
}

// TestPackagesRun makes the packages of an image in a registry, and publishes them in a directory.
func TestPackagesRun(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	image := strings.TrimPrefix(srv.URL, "http://") + "/web:stable"
	push(t, image)
	dir, _ := project(t, map[string]string{"README": "x\n"})
	program, err := pvci()
	if err != nil {
		t.Fatalf("%v: %s", err, program)
	}
	for _, words := range []string{"container init web", "container install -p linux/amd64 " + image + " web"} {
		cmd := exec.CommandContext(t.Context(), program, strings.Fields(words)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pvci %s: %v\n%s", words, err, out)
		}
	}
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "web")
	text := template(t, GitLab, "container-ci")
	store := filepath.Join(t.TempDir(), "store")
	anonymous := map[string]string{"STORE": store, "PVR_REGISTRY_USERNAME": "", "PVR_REGISTRY_PASSWORD": ""}
	r := newRunner(t, dir, anonymous)
	for _, job := range []string{"build-packages", "publish-packages"} {
		if err := r.gitlab(text, job, map[string]string{"CI_COMMIT_TAG": "1.0"}); err != nil {
			t.Fatalf("%s: %v\n%s", job, err, r.said.String())
		}
	}
	made, err := filepath.Glob(filepath.Join(store, "web-*-0-3-g*.amd64.tgz"))
	if err != nil || len(made) != 1 {
		t.Errorf("published %v, %v\n%s", made, err, r.said.String())
	}
	r = newRunner(t, dir, nil)
	if err := r.github("container-ci", map[string]string{"store": store}, anonymous, func(string) bool { return true }); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	if again, err := filepath.Glob(filepath.Join(store, "web-*.tgz")); err != nil || !slices.Equal(again, made) {
		t.Errorf("GitHub has published %v besides %v, %v", again, made, err)
	}
}

// push pushes an image for amd64 to a registry.
func push(t *testing.T, to string) {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{Entrypoint: []string{"/start"}}, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	layer, err := crane.Layer(map[string][]byte{"start": []byte("#!/bin/sh\n")})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(img, to); err != nil {
		t.Fatal(err)
	}
}

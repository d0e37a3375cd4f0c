package devices

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// project makes a working tree with a recipe to be committed, and an origin.
func project(t *testing.T, origin string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, recipesName, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, recipesName, "a", recipeState), []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--quiet", "--initial-branch=main"}, {"remote", "add", "origin", origin}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}

func variables(t *testing.T, more ...string) environment {
	t.Helper()
	return append(environment{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1"}, more...)
}

// TestPushWithToken has a server that asks for the account. It gets it, and nobody else does: neither
// the error nor a file of the clone has the token.
func TestPushWithToken(t *testing.T) {
	t.Parallel()
	const token = "glpat-very-secret"
	var mu sync.Mutex
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("Www-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, user+" "+password)
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "the token %s has no permission", token)
	}))
	defer srv.Close()
	// As in a job of GitLab, the address has an account that may not push.
	dir := project(t, strings.Replace(srv.URL, "http://", "http://gitlab-ci-token:job-secret@", 1)+"/project.git")
	g := &git{dir, variables(t, "PH_CIBOT_EMAIL=bot@example.com", "PH_CIBOT_GITLAB_USER=bot", "PH_CIBOT_GITLAB_TOKEN="+token)}
	if done, err := g.commit(t.Context(), "recipes: update a"); err != nil || !done {
		t.Fatalf("committed %v, %v", done, err)
	}
	_, err := g.push(t.Context())
	if err == nil || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "job-secret") {
		t.Errorf("pushing: %v", err)
	}
	if len(got) == 0 || got[0] != "bot "+token {
		t.Errorf("the server got %q", got)
	}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), token) {
			t.Errorf("%s has the token", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCommit(t *testing.T) {
	t.Parallel()
	dir := project(t, "/nowhere")
	g := &git{dir, variables(t)}
	if _, err := g.commit(t.Context(), "x"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), envEmail) {
		t.Errorf("without an address: %v", err)
	}
	g.env = append(g.env, "PH_CIBOT_EMAIL=bot@example.com")
	if done, err := g.commit(t.Context(), "one"); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if done, err := g.commit(t.Context(), "two"); done || err != nil {
		t.Errorf("without a change: %v, %v", done, err)
	}
	if _, err := g.push(t.Context()); err == nil {
		t.Error("an origin that is not there was pushed to")
	}
	if err := (&git{t.TempDir(), g.env}).isProject(t.Context()); fault.Of(err) != fault.BadInput {
		t.Errorf("outside of a repository: %v", err)
	}
}

func TestBranch(t *testing.T) {
	t.Parallel()
	dir := project(t, "/nowhere")
	g := &git{dir, variables(t, "PH_CIBOT_EMAIL=bot@example.com")}
	if _, err := g.commit(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.run(t.Context(), "checkout", "--quiet", "--detach"); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]string{
		"":                      "",
		"CI_COMMIT_BRANCH=dev":  "dev",
		"CI_DEFAULT_BRANCH=mn":  "mn",
		"CI_COMMIT_BRANCH=-x":   "",
		"CI_COMMIT_BRANCH=a..b": "",
		"GITHUB_REF_NAME=v1":    "", // a tag
	} {
		got, err := (&git{dir, append(variables(t), env)}).branch(t.Context())
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", env, got, err, want)
		}
	}
}

func TestSecretsStayOutOfBuilds(t *testing.T) {
	t.Parallel()
	p := &promotion{run: &run{Options: Options{Env: []string{
		"PATH=/bin", "PHUSER=bot", "PHPASS=1", "PH_CIBOT_GITLAB_TOKEN=2", "DEPLOY_TRIGGER_TOKEN=3", "AWS_SECRET_ACCESS_KEY=4", "AWS_SESSION_TOKEN=5",
	}}}, tag: "1.0"}
	env, err := p.buildEnvironment(&Build{Name: "x", Options: `PV_VERSION=7 PANTAVISOR_DEBUG="yes"`}, "/x/.pvr")
	if err != nil {
		t.Fatal(err)
	}
	want := "PATH=/bin PHUSER=bot PVR_MERGE_SRC=/x/.pvr PV_VERSION=1.0 PV_BUILD_INTERACTIVE=false PV_VERSION=7 PANTAVISOR_DEBUG=yes"
	if got := strings.Join(env, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestCancelledGit expects that git can remove its locks when a run is cancelled, and that no rebase stays half done.
func TestCancelledGit(t *testing.T) {
	dir := t.TempDir()
	began := filepath.Join(dir, "began")
	if err := unix.Mkfifo(began, 0o600); err != nil {
		t.Fatal(err)
	}
	program := `#!/bin/sh
case "$*" in
rev-list*) echo 1; exit ;;
*--abort) touch aborted; exit ;;
esac
trap 'touch ended; exit 1' TERM
echo > began
while :; do sleep 0.05; done
`
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(program), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.ReadFile(began) // waits until it writes
		cancel()
	}()
	g := &git{dir: dir, env: append(os.Environ(), envEmail+"=ci@example.test")}
	if _, err := g.ahead(ctx, "main"); fault.Of(err) != fault.Cancelled {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"ended", "aborted"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("git was not told: %v", err)
		}
	}
}

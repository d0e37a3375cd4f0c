package product

import (
	"archive/zip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the scripts of testdata. Their commands besides those of testscript are
// "offline COMMAND...", which runs it in a network namespace without interfaces, and
// "together N COMMAND...", which runs it N times at once, and "publish VERSION DIR", which
// makes DIR a proxy of the go command that serves this module.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and boots images")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "mage"), "./cmd/mage")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("REPO", root)
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			for _, name := range []string{"HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOFLAGS", "PV_CACHE_DIR", "XDG_CACHE_HOME"} {
				e.Setenv(name, os.Getenv(name))
			}
			return nil
		},
		Condition: func(name string) (bool, error) { return name == "root" && os.Getuid() == 0, nil },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"offline":  offline,
			"together": together,
			"publish": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(publish(root, args[0], ts.MkAbs(args[1])))
			},
		},
	})
}

// publish writes what a proxy serves (go.dev/ref/mod, GOPROXY protocol). It has no modes of
// files.
func publish(root, version, dir string) (err error) {
	const path = "github.com/pantavisor/pantavisor"
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", ":!.ci/lint", ":!.ci/actionlint")
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		return err
	}
	at := filepath.Join(dir, path, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":"2026-01-01T00:00:00Z"}`, version)
	for name, text := range map[string]string{version + ".info": info, version + ".mod": string(mod), "list": version + "\n"} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	out, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		return err
	}
	z := zip.NewWriter(out)
	defer func() { err = errors.Join(err, z.Close(), out.Close()) }()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, not committed
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue // modules have no symbolic links (go.dev/ref/mod, Module zip files)
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		w, err := z.Create(path + "@" + version + "/" + name)
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func offline(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("unshare", append([]string{"--net", "--"}, args...)...)
	if neg != (err != nil) {
		ts.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
}

func together(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	if err != nil || neg {
		ts.Fatalf("usage: together N COMMAND...")
	}
	var all sync.WaitGroup
	said, errs := make([]string, n), make([]error, n)
	for i := range n {
		all.Go(func() {
			cmd := exec.Command(args[1], args[2:]...)
			cmd.Dir, cmd.Env = ts.MkAbs("."), append(os.Environ(), "PV_CACHE_DIR="+ts.Getenv("PV_CACHE_DIR"), "PATH="+ts.Getenv("PATH"))
			var out []byte
			out, errs[i] = cmd.CombinedOutput()
			said[i] = string(out)
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			ts.Fatalf("%d of %d: %v\n%s", i, n, err, said[i])
		}
	}
}

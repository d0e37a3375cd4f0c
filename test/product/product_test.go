package product

import (
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
// "together N COMMAND...", which runs it N times at once.
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
		},
	})
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

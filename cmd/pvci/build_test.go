package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestBuild runs the stories below testdata/build, which build real images with mage and the user's cache.
func TestBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts an image")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mage := filepath.Join(t.TempDir(), "mage")
	program := exec.CommandContext(t.Context(), "go", "build", "-o", mage, "./cmd/mage")
	program.Dir = root
	if out, err := program.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := deviceStories("testdata/build")
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("MAGE", mage)
		env.Setenv("CGO_ENABLED", "0")
		env.Setenv("PV_CACHE_DIR", filepath.Join(cache, "pantavisor"))
		env.Setenv("GOCACHE", filepath.Join(cache, "go-build"))
		env.Setenv("GOPATH", os.Getenv("HOME")+"/go")
		return setup(env)
	}
	p.Condition = func(name string) (bool, error) { return name == "root" && os.Getuid() == 0, nil }
	testscript.Run(t, p)
}

package appengine

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// TestContainerOfAnotherCPU runs a container for arm64 on a PC: it tells the runtime that it
// is ready. Package container tests what is said where there is no handler.
func TestContainerOfAnotherCPU(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the container is one of another CPU on a PC only")
	}
	r, out := runner(t)
	handleARM64(t)
	root := r.Builder.(*workspace.Maker).Root
	arm, err := workspace.OpenMaker(t.Context(), root, "aarch64-appengine", nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign := reference(t, arm, filepath.Join(root, "containers/ready-demo"))
	test := own(t, "pvcontrol ls", func(s *Spec) {
		s.Setup.Containers.Control = "sdk"
		s.Setup.Containers.Tarballs = []string{filepath.Join(root, "containers/sdk"), foreign}
	})
	r.Mode = Mode{Overwrite: true}
	if results, err := r.Run(t.Context(), []*Test{test}, true); err != nil || results[0].Verdict != Recorded {
		t.Fatalf("%+v, %v\n%s", results, err, out)
	}
	text, err := os.ReadFile(filepath.Join(test.Dir, resultFile))
	if err != nil {
		t.Fatal(err)
	}
	var list []api.Container
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if !slices.ContainsFunc(list, func(c api.Container) bool { return c.Name == "ready-demo" && c.Status == "READY" }) {
		t.Errorf("%s", text)
	}
}

// handleARM64 has the kernel run programs for arm64 in an emulator (binfmt_misc,
// Documentation/admin-guide/binfmt-misc.rst), if it does not yet: with the flag F, so that
// containers need not have the emulator.
func handleARM64(t *testing.T) {
	t.Helper()
	if hasHandler("/proc/sys/fs/binfmt_misc/*aarch64*") {
		return
	}
	emulator := oracle.Program(t, "qemu-aarch64-static")
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "binfmt_misc", 0, ""); err != nil {
		t.Skipf("this kernel has no binfmt_misc: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	const magic, mask = `\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`, `\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`
	name := fmt.Sprintf("pantavisor-test-%d", os.Getpid())
	rule := strings.Join([]string{"", name, "M", "", magic, mask, emulator, "F"}, ":")
	if err := os.WriteFile(filepath.Join(dir, "register"), []byte(rule), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(dir, name), []byte("-1"), 0) })
}

// hasHandler reports whether one of the handlers has the flag F.
func hasHandler(pattern string) bool {
	found, _ := filepath.Glob(pattern)
	return slices.ContainsFunc(found, func(file string) bool {
		text, err := os.ReadFile(file)
		_, flags, _ := strings.Cut(string(text), "flags:")
		flags, _, _ = strings.Cut(flags, "\n")
		return err == nil && strings.Contains(flags, "F")
	})
}

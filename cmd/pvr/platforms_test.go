package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The host tools compile for systems and processors that this machine is not: macOS,
// Windows, one of 32 bits and one whose numbers begin with the highest byte.
func TestOtherPlatforms(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the host tools for other systems")
	}
	t.Parallel()
	for _, platform := range []string{"darwin/arm64", "windows/amd64", "linux/386", "linux/s390x"} {
		system, processor, _ := strings.Cut(platform, "/")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, "github.com/pantavisor/pantavisor/cmd/pvr", "github.com/pantavisor/pantavisor/cmd/mage")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+processor)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", platform, err, out)
		}
	}
}

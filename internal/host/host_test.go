package host

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// fakeApt puts an apt-get on the PATH that records its words and makes the program
// appear that the test misses.
func fakeApt(t *testing.T, script string) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	text := "#!/bin/sh\necho \"$@\" >> " + log + "\nbin=" + dir + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return log
}

func TestNothingMissing(t *testing.T) {
	log := fakeApt(t, "")
	if err := Ensure(context.Background(), "the test", []Need{{Name: "sh", Package: "dash"}, {Name: "a file", Has: func() bool { return true }}}, true, nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(log); err == nil {
		t.Error("apt-get was run although nothing is missing")
	}
}

func TestInstallsAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("installing is for root")
	}
	log := fakeApt(t, `[ "$2" = install ] && { echo '#!/bin/sh' > $bin/frobnicate; chmod +x $bin/frobnicate; } || true`)
	var out bytes.Buffer
	needs := []Need{{Name: "frobnicate", Package: "frob"}, {Name: "sh", Package: "dash"}}
	if err := Ensure(context.Background(), "the test", needs, true, &out); err != nil {
		t.Fatal(err)
	}
	words, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(words), "install -y -q --no-install-recommends frob\n") {
		t.Errorf("apt-get was run with %q, %v", words, err)
	}
	if want := "installing frob for the test: missing frobnicate"; !strings.Contains(out.String(), want) {
		t.Errorf("said %q, want %q", out.String(), want)
	}
}

func TestErrorsSayWhatMends(t *testing.T) {
	needs := []Need{{Name: "frobnicate", Package: "frob"}}
	fakeApt(t, "exit 0")
	err := Ensure(context.Background(), "the test", needs, false, &bytes.Buffer{})
	if fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "apt-get install -y --no-install-recommends frob") {
		t.Errorf("not interactive: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("installing is for root")
	}
	if err := Ensure(context.Background(), "the test", needs, true, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "still missing") {
		t.Errorf("the package does not bring the program: %v", err)
	}
	fakeApt(t, "exit 100")
	if err := Ensure(context.Background(), "the test", needs, true, &bytes.Buffer{}); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "installing frob for the test: apt-get install") {
		t.Errorf("apt fails: %v", err)
	}
}

package dist

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"go/version"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
)

// packSource makes the source's archive and returns its path.
func packSource(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	s := &source{Release: "1.0", Epoch: 1600000000, root: root}
	w := &build.Work{Out: t.TempDir(), Tmp: t.TempDir()}
	if err := s.Run(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(w.Out, "pantavisor-1.0-vendored.tar.gz")
}

// TestSource makes the source twice: the archives are the same. The programs that build systems
// compile come out of it without a network and without another tool chain.
func TestSource(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles three programs")
	}
	t.Parallel()
	file := packSource(t)
	one, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(packSource(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("the archives of one source differ")
	}
	dir := unpack(t, one)
	checkGoMod(t, dir)
	for _, program := range []string{"pvcompose", "pvr", "pantavisor"} {
		args := []string{"go", "build", "-trimpath", "-mod=vendor", "-o", t.TempDir(), "./cmd/" + program}
		if os.Getuid() == 0 {
			args = append([]string{"unshare", "--net", "--"}, args...)
		}
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
}

// unpack unpacks the archive, of which all must be root's, of one time, and in one directory.
func unpack(t *testing.T, archive []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	dir, in := t.TempDir(), tar.NewReader(z)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, "pantavisor-1.0")
		}
		if err != nil {
			t.Fatal(err)
		}
		name, below := strings.CutPrefix(h.Name, "pantavisor-1.0/")
		if !below || h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 1600000000 {
			t.Errorf("%s: owner %d:%d, time %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		if first, _, _ := strings.Cut(name, "/"); strings.HasPrefix(first, ".") || first == "out" {
			t.Errorf("%s is not source", h.Name)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(to, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, to)
		case tar.TypeReg:
			err = writeFile(to, in, h.FileInfo().Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func writeFile(to string, from io.Reader, mode os.FileMode) error {
	text, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, mode.Perm())
}

var (
	goLine     = regexp.MustCompile(`(?m)^go (\S+)$`)
	vendorLine = regexp.MustCompile(`(?m)^## (?:explicit; )?go (\S+)$`)
)

// checkGoMod checks that go.mod demands no newer language than the modules that it names do, and
// no tool chain: build systems have one, and get no other.
func checkGoMod(t *testing.T, dir string) {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	mod := read("go.mod")
	if strings.Contains(mod, "\ntoolchain ") {
		t.Error("go.mod names a tool chain: remove the line, which build systems cannot follow")
	}
	own := goLine.FindStringSubmatch(mod)
	if own == nil {
		t.Fatal("go.mod has no go line")
	}
	newest := "1.0"
	lines := vendorLine.FindAllStringSubmatch(read("vendor/modules.txt"), -1)
	for _, m := range lines {
		if version.Compare("go"+m[1], "go"+newest) > 0 {
			newest = m[1]
		}
	}
	if len(lines) < 10 || own[1] != newest {
		t.Errorf("go.mod: go %s; of %d modules the newest wants go %s, which is what it should say", own[1], len(lines), newest)
	}
}

func TestSourceIsChosen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names     []string
		platforms int
		source    bool
	}{{nil, len(platforms), true}, {[]string{"source"}, 0, true}, {[]string{"darwin"}, 2, false}} {
		p, source, err := Choose(c.names)
		if err != nil || len(p) != c.platforms || source != c.source {
			t.Errorf("%v: %d platforms, source %v, %v", c.names, len(p), source, err)
		}
	}
	if _, _, err := Choose([]string{"sources"}); err == nil || !strings.Contains(err.Error(), "source") {
		t.Errorf("got %v", err)
	}
}

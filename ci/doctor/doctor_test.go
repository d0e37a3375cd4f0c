package doctor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/cachedir"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func find(t *testing.T, all []Finding, name string) Finding {
	t.Helper()
	i := slices.IndexFunc(all, func(f Finding) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no check %s in %v", name, all)
	}
	return all[i]
}

// TestMissingPrograms runs the checks on a machine without programs.
func TestMissingPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	all, err := Look(t.Context(), Options{Dir: t.TempDir(), Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]State{"go": Lacking, "git": Lacking, "apt": Limited, "qemu": Limited, "network": Limited} {
		if f := find(t, all, name); f.State != want || f.Detail == "" {
			t.Errorf("%+v, want %s", f, want)
		}
	}
	if err := Verdict(all); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "go, git") {
		t.Errorf("got %v", err)
	}
	all, err = Look(t.Context(), Options{Dir: t.TempDir(), Offline: true, Needs: []string{"apt", "network"}})
	if err != nil || find(t, all, "apt").State != Lacking || find(t, all, "network").State != Lacking {
		t.Errorf("%v, %v", all, err)
	}
}

func TestThisMachine(t *testing.T) {
	t.Parallel()
	all, err := Look(t.Context(), Options{Dir: "../..", Offline: true})
	if err != nil || find(t, all, "go").State != Fine || find(t, all, "memory").State != Fine {
		t.Errorf("%v, %v", all, err)
	}
	for _, o := range []Options{{Needs: []string{"luck"}}, {Templates: []string{"none"}}} {
		o.Offline = true
		if _, err := Look(t.Context(), o); fault.Of(err) != fault.BadInput {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestOldGo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/x\n\ngo 1.99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOTOOLCHAIN", "local")
	if f := goVersion(t.Context(), &Options{Dir: dir}); f.State != Lacking || !strings.Contains(f.Mend, "1.99") {
		t.Errorf("%+v", f)
	}
}

// TestVariables expects that values are never shown.
func TestVariables(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse"
	all, err := Look(t.Context(), Options{
		Dir: t.TempDir(), Offline: true, Templates: []string{"update-ci"}, Environ: []string{"PHPASS=" + secret, "PHUSER="},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]State{"PHPASS": Fine, "PHUSER": Limited, "PH_CIBOT_EMAIL": Lacking} {
		if f := find(t, all, "update-ci "+name); f.State != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
	data, err := json.Marshal(all)
	if err != nil || strings.Contains(string(data)+Text(all), secret) {
		t.Errorf("%s, %v", data, err)
	}
}

func TestPackages(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	t.Setenv(cachedir.Variable, cache)
	lock, err := os.ReadFile("../../targets/x64-uefi/parts.lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "targets/board"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "targets/board/parts.lock"), lock, 0o600); err != nil {
		t.Fatal(err)
	}
	if f := packages(t.Context(), &Options{Dir: dir, Targets: []string{"board"}}); f.State != Fine || !strings.Contains(f.Detail, "are to be downloaded") {
		t.Errorf("%+v", f)
	}
	if f := packages(t.Context(), &Options{Dir: dir, Targets: []string{"other"}}); f.State != Limited || !strings.Contains(f.Mend, "mage lock other") {
		t.Errorf("%+v", f)
	}
	if f := packages(t.Context(), &Options{Dir: dir, Targets: []string{"../board"}}); f.State != Lacking {
		t.Errorf("%+v", f)
	}
}

func TestServers(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.NotFoundHandler())
	defer up.Close()
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	withPassword := strings.Replace(down.URL, "://", "://user:correct-horse@", 1)
	if got, want := unreachable(t.Context(), []string{up.URL, withPassword}), []string{strings.TrimPrefix(down.URL, "http://")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

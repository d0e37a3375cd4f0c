package containers

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestPlatforms walks the table: each name is found by itself and by that of its directory, and once.
func TestPlatforms(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range platforms {
		for _, name := range []string{p.Docker, p.Dir} {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
			if got, err := parsePlatforms(name, strings.ToUpper(name)); err != nil || !slices.Equal(got, []Platform{p}) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
	for other, name := range synonyms {
		if got, err := parsePlatforms(other); err != nil || got[0].Docker != name {
			t.Errorf("%s: %v, %v", other, got, err)
		}
	}
	if _, err := parsePlatforms("linux/amd64 linux/vax"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "linux/vax:") {
		t.Errorf("an unknown platform: %v", err)
	}
}

// TestConfiguration changes the platforms in configurations of several forms; other lines stay.
func TestConfiguration(t *testing.T) {
	for before, after := range map[string]string{
		"":                                    `PLATFORMS="linux/mips"` + "\n",
		"# ours\nREGISTRY=x":                  "# ours\nREGISTRY=x\n" + `PLATFORMS="linux/mips"` + "\n",
		"PLATFORMS=linux/amd64\nA=1\n":        `PLATFORMS="linux/mips"` + "\nA=1\n",
		"export PLATFORMS='amd64 riscv64'\n":  `PLATFORMS="linux/mips"` + "\n",
		"#PLATFORMS=x\nPLATFORMS=\"\" # none": "#PLATFORMS=x\n" + `PLATFORMS="linux/mips"`,
	} {
		dir := t.TempDir()
		if before != "" {
			if err := os.WriteFile(filepath.Join(dir, confName), []byte(before), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		wanted, err := parsePlatforms("mips")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := configure(dir, wanted); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, confName))
		if err != nil || string(got) != after {
			t.Errorf("%q: %q, %v, want %q", before, got, err, after)
		}
		if list, err := configured(dir); err != nil || !slices.Equal(list, wanted) {
			t.Errorf("%q: read back are %v, %v", before, list, err)
		}
	}
}

func TestNamesOfPackages(t *testing.T) {
	for name, want := range map[string][3]string{
		"pvwebstatus-v0.0.1-0-g7ab223a":        {"pvwebstatus", "v0.0.1", "0-g7ab223a"},
		"pvwebstatus-v0.0.1-0-42-g7ab223a":     {"pvwebstatus", "v0.0.1", "0-42-g7ab223a"},
		"pv-web-status-1.2.3-rc1-0-7-gabcdef0": {"pv-web-status", "1.2.3-rc1", "0-7-gabcdef0"},
		"web-2-1.0-0-7-gabcdef0":               {"web-2", "1.0", "0-7-gabcdef0"},
	} {
		m := usualName.FindStringSubmatch(name)
		if m == nil || [3]string(m[1:4]) != want {
			t.Errorf("%s: %q, want %q", name, m, want)
		}
	}
	for _, name := range []string{"web", "web-1", "web-v1-7", "-1-0-g7ab223a"} {
		if m := usualName.FindStringSubmatch(name); m != nil {
			t.Errorf("%s: %q", name, m)
		}
	}
}

// TestPublishAtOnce has several pipelines put packages into one index at the same time.
func TestPublishAtOnce(t *testing.T) {
	place := t.TempDir()
	const pipelines = 6
	var wg sync.WaitGroup
	errs := make([]error, pipelines)
	for n := range pipelines {
		wg.Go(func() {
			s, err := store.Open(place, nil)
			if err == nil {
				err = InStore(s).record(t.Context(), []Package{{Name: "web", URL: fmt.Sprintf("web-%d.mips.tgz", n), SHA256: strings.Repeat("0", 64)}})
			}
			errs[n] = err
		})
	}
	wg.Wait()
	for n, err := range errs {
		if err != nil {
			t.Errorf("pipeline %d: %v", n, err)
		}
	}
	list, err := readIndex(filepath.Join(place, indexName))
	if err != nil || len(list) != pipelines {
		t.Errorf("the index has %d packages, %v", len(list), err)
	}
}

// TestHostileIndex lists indexes whose entries lead elsewhere than to files on the web.
func TestHostileIndex(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{"#spec":"other","packages":[]}`,
		`{"#spec":"pantavisor-packages@1","packages":[{"name":"a","url":"a.tgz","sha256":"short"}]}`,
		`{"#spec":"pantavisor-packages@1","packages":[{"url":"a.tgz","sha256":"` + strings.Repeat("0", 64) + `"}]}`,
	} {
		if _, err := parseIndex([]byte(text)); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestRedirect expects that only the server that was named gets the token, over the same protocol.
func TestRedirect(t *testing.T) {
	t.Parallel()
	env := func(name string) string { return map[string]string{"GITLAB_TOKEN": "secret"}[name] }
	r, err := OpenRegistry("https://gitlab.test/api/v4/projects/1", env, &http.Client{})
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{"https://gitlab.test/x": "secret", "http://gitlab.test/x": "", "https://storage.test/x": ""} {
		first, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.project, nil)
		if err != nil {
			t.Fatal(err)
		}
		next, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		next.Header.Set(r.header, r.token)
		if err := r.client.CheckRedirect(next, []*http.Request{first}); err != nil || next.Header.Get(r.header) != want {
			t.Errorf("%s gets the token %q, %v; want %q", to, next.Header.Get(r.header), err, want)
		}
	}
}

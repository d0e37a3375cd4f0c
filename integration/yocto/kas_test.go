package yocto

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// kasFile is what kas reads, as far as the files here have it (kas/schema-kas.json of kas 5.4,
// in which other members are errors).
type kasFile struct {
	Header struct {
		Version  int      `yaml:"version"`
		Includes []string `yaml:"includes"`
	} `yaml:"header"`
	Machine         string             `yaml:"machine"`
	Distro          string             `yaml:"distro"`
	Target          string             `yaml:"target"`
	Repos           map[string]kasRepo `yaml:"repos"`
	LocalConfHeader map[string]string  `yaml:"local_conf_header"`
}

// kasRepo is a repository; one without a URL is that of the file.
type kasRepo struct {
	URL    string             `yaml:"url"`
	Branch string             `yaml:"branch"`
	Layers map[string]*string `yaml:"layers"`
}

// kasVersions are those of the form that kas 4.0, with which scarthgap was released, and 5.4 read.
var kasVersions = [2]int{1, 14}

func TestKas(t *testing.T) {
	found, err := filepath.Glob("kas/*.yml")
	if err != nil || len(found) < 3 {
		t.Fatalf("%v, %v", found, err)
	}
	conf := string(read(t, layer+"/conf/layer.conf"))
	series := strings.Fields(regexp.MustCompile(`LAYERSERIES_COMPAT_\S+ = "([^"]+)"`).FindStringSubmatch(conf)[1])
	bitbake := map[string]string{"scarthgap": "2.8", "wrynose": "2.18"}
	var covered []string
	for _, name := range found {
		var f kasFile
		if err := yaml.UnmarshalWithOptions(read(t, name), &f, yaml.Strict()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v := f.Header.Version; v < kasVersions[0] || v > kasVersions[1] {
			t.Errorf("%s: version %d; want at most %d", name, v, kasVersions[1])
		}
		for id, r := range f.Repos {
			kasLayers(t, name, id, r)
		}
		if core, ok := f.Repos["openembedded-core"]; ok {
			covered = append(covered, core.Branch)
			if got := f.Repos["bitbake"].Branch; name != "kas/"+core.Branch+".yml" || got != bitbake[core.Branch] {
				t.Errorf("%s: OpenEmbedded-Core of %s with BitBake of %s", name, core.Branch, got)
			}
		}
		if f.Target != "" {
			if recipes, _ := filepath.Glob(layer + "/recipes-*/*/" + f.Target + ".bb"); len(recipes) != 1 {
				t.Errorf("%s: target %s: recipes %v", name, f.Target, recipes)
			}
		}
	}
	slices.Sort(covered)
	if !slices.Equal(covered, series) {
		t.Errorf("kas files of %v; the layer is for %v", covered, series)
	}
}

// kasLayers looks at the layers of a repository.
func kasLayers(t *testing.T, name, id string, r kasRepo) {
	t.Helper()
	if (r.URL == "") != (r.Branch == "") {
		t.Errorf("%s: %s: want both url and branch, or none", name, id)
	}
	for _, at := range slices.Sorted(maps.Keys(r.Layers)) {
		if state := r.Layers[at]; state != nil && *state != "disabled" {
			t.Errorf("%s: %s: layer %s: %q; want nothing or disabled", name, id, at, *state)
		}
		if r.URL != "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, at, "conf/layer.conf")); err != nil {
			t.Errorf("%s: %s: %v", name, id, err)
		}
	}
}

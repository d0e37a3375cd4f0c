package resolve

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// TestGivenParts gives one of two parts in every wrong way: it is reported although the other
// one is not given.
func TestGivenParts(t *testing.T) {
	t.Parallel()
	target, err := targets.Load(nil, "odroid-c2")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "bl1.bin")
	if err := os.WriteFile(file, []byte("stage"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte("stage")))
	for _, c := range []struct {
		path, digest string
		kind         fault.Kind
		want         string
	}{
		{"", "", 0, ""},
		{file, digest, 0, ""},
		{file, strings.ToUpper(digest), 0, ""},
		{file, strings.Repeat("ab", 32), fault.Digest, file + " has the SHA-256 " + digest + ", not abab"},
		{file, "", fault.BadInput, `PV_PART_BL1_SHA256="": want the SHA-256 of ` + file},
		{file, digest[1:], fault.BadInput, "64 hexadecimal digits"},
		{"", digest, fault.BadInput, "PV_PART_BL1_SHA256 is set, but PV_PART_BL1, its file, is not"},
		{dir, digest, fault.BadInput, dir + " is not a regular file"},
		{os.DevNull, digest, fault.BadInput, "is not a regular file"},
		{file + ".none", digest, fault.Missing, "there is no file " + file + ".none"},
	} {
		given := map[string]string{"PV_PART_BL1": c.path, "PV_PART_BL1_SHA256": c.digest}
		o := Options{Layers: layers.New(layers.Layer{Label: layers.Workspace, Dir: dir}), GivenParts: given}
		if err := CheckParts(t.Context(), target, o); fault.Of(err) != c.kind || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q: kind %v: %v; want %s", c.path, c.digest, fault.Of(err), err, c.want)
		}
	}
}

// TestPartsOfOtherTargets: a misspelt variable is told where a part is missed.
func TestPartsOfOtherTargets(t *testing.T) {
	t.Parallel()
	target, err := targets.Load(nil, "odroid-c2")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{"PV_PART_BL1": "f", "PV_PART_BL1_SHA256": "d", "PV_PART_FPI": "f"}
	err = Lacks(target, Options{GivenParts: given})
	if fault.Of(err) != fault.Missing || !strings.HasSuffix(err.Error(), "\nof what is set, this target has no part for PV_PART_FPI") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	delete(given, "PV_PART_FPI")
	if err := Lacks(target, Options{GivenParts: given}); strings.Contains(err.Error(), "of what is set") {
		t.Error(err)
	}
}

package resolve

import (
	"slices"
	"testing"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/targets"
)

// TestBigEndianMIPS: what is shipped for little-endian MIPS, for which Debian has packages, can
// be made for a big-endian one without them.
func TestBigEndianMIPS(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "mips-appengine")
	target.Arch = targets.Arch{Go: "mips", MIPS: "softfloat"}
	in, err := Target(target, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := images.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range c.Wanted()[0].Deps() {
		names = append(names, s.Name())
	}
	if !slices.Contains(names, "go/pantavisor/mips-softfloat") {
		t.Errorf("the package is made of %v", names)
	}
	if requests, err := BuildRequests(target, o.Layers); err != nil || len(requests) != 0 {
		t.Errorf("it asks for packages: %v, %v", requests, err)
	}
}

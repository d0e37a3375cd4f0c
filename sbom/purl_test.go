package sbom

import "testing"

// TestPURL has examples of the specification, and names that need their characters encoded.
func TestPURL(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"pkg:deb/debian/libstdc%2B%2B6@1:12.2-14?arch=amd64&distro=debian-12": PURL("deb", "debian", "libstdc++6", "1:12.2-14", "arch", "amd64", "distro", "debian-12"),
		"pkg:npm/%40angular/cli@1.0":                                          PURL("npm", "@angular", "cli", "1.0"),
		"pkg:golang/google.golang.org/genproto":                               PURL("golang", "google.golang.org/", "genproto", "", "arch", ""),
		"pkg:generic/a%20%2Fb%3F%23%0A@%40?x=%26":                             PURL("generic", "", "a /b?#\n", "@", "a", "", "x", "&"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

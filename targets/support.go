package targets

import (
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/sbom"
)

// Support is what the manufacturer of a product promises to its users (Regulation (EU) 2024/2847,
// Annex II). It goes into the bills of materials and into build.json of the BSP.
type Support struct {
	// End is the day until which vulnerabilities are handled, as 2031-12-31.
	End string `yaml:"end,omitempty" json:"end,omitempty"`
	// Contact is where vulnerabilities are reported: a mail address or an https URL.
	Contact string `yaml:"contact,omitempty" json:"contact,omitempty"`
	// Manufacturer is the name of who makes the product.
	Manufacturer string `yaml:"manufacturer,omitempty" json:"manufacturer,omitempty"`
}

// SBOM returns it as bills of materials have it.
func (s *Support) SBOM() sbom.Support {
	if s == nil {
		return sbom.Support{}
	}
	return sbom.Support(*s)
}

// CheckSupport reports the mistakes of the block at a path of a file.
func CheckSupport(f *yamlfile.File, at string, s *Support) {
	for field, wrong := range s.SBOM().Mistakes() {
		f.Wrong(at+"."+field, "%s", wrong)
	}
}

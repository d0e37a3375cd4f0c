package dist

import (
	"slices"

	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/targets"
)

// Platform is a system and a CPU that the host tools are made for.
type Platform struct {
	OS   string // GOOS
	Arch targets.Arch
}

// String returns the platform as GOOS/GOARCH.
func (p Platform) String() string { return p.OS + "/" + p.Arch.Go }

// word is the platform in the name of an archive.
func (p Platform) word() string { return p.OS + "_" + p.Arch.String() }

// platforms are all for which the tools are made. 32-bit ARM is that of the first Raspberry
// Pi, and 32-bit MIPS needs no floating point unit: the programs run on every later CPU.
var platforms = []Platform{
	{"darwin", targets.Arch{Go: "amd64"}},
	{"darwin", targets.Arch{Go: "arm64"}},
	{"linux", targets.Arch{Go: "386"}},
	{"linux", targets.Arch{Go: "amd64"}},
	{"linux", targets.Arch{Go: "arm", ARM: "6"}},
	{"linux", targets.Arch{Go: "arm64"}},
	{"linux", targets.Arch{Go: "loong64"}},
	{"linux", targets.Arch{Go: "mips", MIPS: "softfloat"}},
	{"linux", targets.Arch{Go: "mips64"}},
	{"linux", targets.Arch{Go: "mips64le"}},
	{"linux", targets.Arch{Go: "mipsle", MIPS: "softfloat"}},
	{"linux", targets.Arch{Go: "ppc64"}},
	{"linux", targets.Arch{Go: "ppc64le"}},
	{"linux", targets.Arch{Go: "riscv64"}},
	{"linux", targets.Arch{Go: "s390x"}},
	{"windows", targets.Arch{Go: "amd64"}},
	{"windows", targets.Arch{Go: "arm64"}},
}

// Choose returns the platforms of the given names, each GOOS/GOARCH or a GOOS alone, and
// whether the word "source" is among them; all without names.
func Choose(names []string) ([]Platform, bool, error) {
	if len(names) == 0 {
		return slices.Clone(platforms), true, nil
	}
	var chosen []Platform
	for _, p := range platforms {
		if slices.Contains(names, p.String()) || slices.Contains(names, p.OS) {
			chosen = append(chosen, p)
		}
	}
	words := []string{sourceWord, "darwin", "linux", "windows"}
	for _, p := range platforms {
		words = append(words, p.String())
	}
	for _, name := range names {
		if !slices.Contains(words, name) {
			return nil, false, spelling.Unknown("platform", name, words)
		}
	}
	return chosen, slices.Contains(names, sourceWord), nil
}

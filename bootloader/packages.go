package bootloader

import (
	"slices"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/targets"
)

// Request is the name of a loader's request to Debian.
const Request = "bootloader"

// Packages returns the request for the packages of a target's boot loader; nil when it has
// none.
func Packages(t *targets.Target) []debian.Request {
	b := t.Bootloader
	if len(b.Packages) == 0 {
		return nil
	}
	return []debian.Request{{Name: Request, Suite: b.Suite, Arch: t.Arch.Debian, Packages: slices.Sorted(slices.Values(b.Packages))}}
}

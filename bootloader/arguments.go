package bootloader

import (
	"regexp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

var (
	argumentForm = regexp.MustCompile(`^[A-Za-z0-9_.,:/=@%+-]+$`)
	reserved     = regexp.MustCompile(`^(pv_boot_partuuid|pv_rev|pv_try|rdinit)=`)
)

// CheckArguments checks that a loader's script can hand the arguments to the kernel as they
// are, and that none is one that the script itself adds.
func CheckArguments(arguments []string) error {
	for _, a := range arguments {
		if !argumentForm.MatchString(a) || reserved.MatchString(a) {
			return fault.New(fault.BadInput, "kernel argument %q: want letters, digits and _.,:/=@%%+- "+
				"and none of pv_boot_partuuid=, pv_rev=, pv_try=, rdinit=", a)
		}
	}
	return nil
}

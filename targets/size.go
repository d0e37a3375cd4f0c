package targets

import (
	"encoding"
	"fmt"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Size is a number of bytes. In a file it is a whole number of MiB, or a number with its
// unit: 512B, 64s (sectors of 512 bytes), 16KiB, 4MiB, 2GiB.
type Size int64

// Units of sizes.
const (
	Sector Size = 512
	KiB    Size = 1 << 10
	MiB    Size = 1 << 20
	GiB    Size = 1 << 30
)

// maxSize is that of the largest medium.
const maxSize = 1 << 40

// units are those of files, in the order in which they are looked for.
var units = []struct {
	name  string
	bytes Size
}{{"KiB", KiB}, {"MiB", MiB}, {"GiB", GiB}, {"s", Sector}, {"B", 1}, {"", MiB}}

var _ encoding.TextUnmarshaler = (*Size)(nil)

// UnmarshalText reads the form of files.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range units {
		number, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 63)
		switch {
		case err != nil:
			return fault.New(fault.BadInput, "%q is not a size: want MiB, or a number with its unit such as 512KiB, 64s (sectors), 512B, 2GiB", text)
		case n > uint64(maxSize/u.bytes):
			return fault.New(fault.BadInput, "%s is out of range; want up to 1024GiB", text)
		}
		*s = Size(n) * u.bytes
		return nil
	}
	return nil
}

// MarshalJSON encodes the form of files, so that a JSON schema of them fits.
func (s Size) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, s.String()), nil }

// String is the form of files with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []int{2, 1, 0} {
		if unit := units[u]; s%unit.bytes == 0 && s != 0 {
			return fmt.Sprintf("%d%s", s/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%dB", int64(s))
}

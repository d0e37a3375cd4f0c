package build

import "time"

// Stamp is the time that a step writes into its output, in seconds since 1970; 0 stands
// for [Epoch]. A step that writes times has it as an exported field, so that it enters
// the key.
type Stamp int64

// The range that every format can hold: FAT begins in 1980, squashfs and cpio have
// 32 bits.
const (
	FirstStamp Stamp = 315532800  // 1980-01-01T00:00:00Z
	LastStamp  Stamp = 4294967295 // 2106-02-07T06:28:15Z
)

// Seconds returns the stamp in seconds since 1970.
func (s Stamp) Seconds() int64 {
	if s == 0 {
		return Epoch
	}
	return int64(s)
}

// Time returns the stamp in UTC.
func (s Stamp) Time() time.Time { return time.Unix(s.Seconds(), 0).UTC() }

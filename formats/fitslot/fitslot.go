// Package fitslot is the header of a slot of an A/B boot loader that starts FITs: 4096 bytes
// with the text "fit_rev=REVISION" and zeros, before the FIT. U-Boot's "env import -t" reads
// it. A loader takes the slot whose header has the wanted revision.
//
// The last word is a mark for NOR flash, where zeros can be written without erasing: as long
// as all its bits are set, no test boot of the slot has been started.
package fitslot

import (
	"bytes"
	"fmt"
	"strings"
)

// Size is the size of the header in bytes. The FIT follows it.
const Size = 4096

// MarkAt is where the mark of a started test boot is, MarkSize its length in bytes.
const (
	MarkAt   = Size - MarkSize
	MarkSize = 4
)

// variable is the name of the header's only variable.
const variable = "fit_rev"

// maxRevision is the length of the longest revision's name in bytes.
const maxRevision = 128

// Encode returns the header for a revision.
func Encode(revision string) ([]byte, error) {
	if revision == "" || len(revision) > maxRevision || strings.ContainsAny(revision, "\x00\r\n=") {
		return nil, fmt.Errorf("the revision %q cannot be in a slot's header", revision)
	}
	out := make([]byte, Size)
	copy(out, variable+"="+revision+"\n")
	for i := range MarkSize {
		out[MarkAt+i] = 0xff
	}
	return out, nil
}

// Started reports whether a test boot of the slot with a header has been started.
func Started(header []byte) bool {
	return len(header) < Size || string(header[MarkAt:Size]) != "\xff\xff\xff\xff"
}

// Decode returns the revision of a header; "" when the slot has none, as one that was erased
// before a new image is written.
func Decode(header []byte) string {
	header = header[:min(len(header), Size)]
	if i := bytes.IndexByte(header, 0); i >= 0 {
		header = header[:i]
	}
	for line := range strings.Lines(string(header)) {
		if revision, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), variable+"="); ok && len(revision) <= maxRevision {
			return revision
		}
	}
	return ""
}

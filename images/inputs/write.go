package inputs

import (
	"encoding/json"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Encode returns the text of the list as JSON.
func (l *List) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing the list of inputs")
	}
	return append(text, '\n'), nil
}

// Write writes the list to a file.
func (l *List) Write(file string) error {
	text, err := l.Encode()
	if err != nil {
		return err
	}
	return fault.Wrap(fault.IO, atomicfile.Write(file, text, 0o644), "writing the list of inputs")
}

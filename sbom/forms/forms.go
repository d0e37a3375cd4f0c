// Package forms writes and reads bills of materials in each form that they have, by name.
package forms

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/cyclonedx"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
	"github.com/pantavisor/pantavisor/sbom/spdx3"
)

// Form is the name of a form of documents.
type Form string

// The forms.
const (
	// SPDX is written as SPDX 2.3, and read from 2.2 on.
	SPDX      Form = "spdx"
	SPDX3     Form = "spdx3"
	CycloneDX Form = "cyclonedx"
)

// MaxSize is the most of a document that is read, in bytes when unpacked.
const MaxSize = 128 << 20

// Names lists the forms.
func Names() []string { return []string{string(SPDX), string(SPDX3), string(CycloneDX)} }

// Parse returns the form with a name. The error is of the kind fault.BadInput and names the nearest.
func Parse(name string) (Form, error) {
	switch f := Form(name); f {
	case SPDX, SPDX3, CycloneDX:
		return f, nil
	}
	return "", spelling.Unknown("form of an SBOM", name, Names())
}

// Write writes a document, which is sealed: SPDX 2.3, SPDX 3.0.1 or CycloneDX 1.6. The same document gives
// the same bytes. A document that cannot be written is of the kind fault.BadInput, and w gets nothing.
func Write(w io.Writer, d *sbom.Document, form Form) error {
	switch form {
	case SPDX:
		return spdx2.Write(w, d)
	case SPDX3:
		return spdx3.Write(w, d)
	case CycloneDX:
		return cyclonedx.Write(w, d)
	}
	_, err := Parse(string(form))
	return err
}

// Read reads a document of any form, which may be compressed: its content says which form it is. Errors are
// of the kind fault.BadInput.
func Read(r io.Reader) (*sbom.Document, error) {
	plain, err := decompress.Reader(r)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading an SBOM")
	}
	defer plain.Close()
	data, err := bounded.Read(plain, MaxSize)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading an SBOM")
	}
	form, err := Detect(data)
	if err != nil {
		return nil, err
	}
	switch form {
	case SPDX:
		return spdx2.Read(bytes.NewReader(data))
	case SPDX3:
		return spdx3.Read(bytes.NewReader(data))
	case CycloneDX:
		return cyclonedx.Read(bytes.NewReader(data))
	}
	return nil, fault.New(fault.BadInput, "reading an SBOM: the JSON is neither of SPDX 2.2, 2.3 or 3.0 nor of CycloneDX")
}

// Detect returns the form of a JSON text, or "" if it is another one. The error is of the kind
// fault.BadInput: the text is not JSON.
func Detect(data []byte) (Form, error) {
	var probe struct {
		SPDX      json.RawMessage `json:"spdxVersion"`
		SPDX3     json.RawMessage `json:"@context"`
		CycloneDX json.RawMessage `json:"bomFormat"`
	}
	// An array is JSON, but cannot be unmarshalled into the probe.
	if err := json.Unmarshal(data, &probe); err != nil && !json.Valid(data) {
		return "", fault.Wrap(fault.BadInput, err, "reading an SBOM: it is not JSON")
	}
	switch {
	case probe.SPDX != nil:
		return SPDX, nil
	case probe.CycloneDX != nil:
		return CycloneDX, nil
	case probe.SPDX3 != nil && bytes.Contains(probe.SPDX3, []byte("spdx.org/")):
		return SPDX3, nil
	}
	return "", nil
}

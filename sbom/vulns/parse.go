package vulns

import (
	"bytes"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/cyclonedx"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
	"github.com/pantavisor/pantavisor/sbom/spdx3"
)

// parse reads a document of any form.
func parse(text []byte) (*sbom.Document, error) {
	switch start := text[:min(len(text), head)]; {
	case bytes.Contains(start, []byte(`"bomFormat"`)):
		return cyclonedx.Read(bytes.NewReader(text))
	case bytes.Contains(start, []byte(`"@context"`)), bytes.Contains(start, []byte(`"@graph"`)):
		return spdx3.Read(bytes.NewReader(text))
	}
	return spdx2.Read(bytes.NewReader(text))
}

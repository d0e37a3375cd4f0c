package adapters

import _ "embed"

// PartialSchema is the JSON schema of a partial list, YoctoSchema that of the list which the layer
// for Yocto writes; for editors.
var (
	//go:embed partial.schema.json
	PartialSchema []byte
	//go:embed yocto.schema.json
	YoctoSchema []byte
)

package inputs

import _ "embed"

// Schema is the JSON schema of a list, for editors.
//
//go:embed inputs.schema.json
var Schema []byte

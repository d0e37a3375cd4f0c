package inputs

import (
	"testing"

	"github.com/invopop/jsonschema"

	"github.com/pantavisor/pantavisor/internal/yamlfile/schematest"
	"github.com/pantavisor/pantavisor/targets"
)

var schema = schematest.Schema{
	File: "inputs.schema.json", Title: "Inputs", Package: "github.com/pantavisor/pantavisor/images/inputs", Of: &List{},
	Others: []string{"../../targets"},
	Adjust: func(s *jsonschema.Schema) {
		element := s.Definitions["Images"].Items
		image, _ := s.Properties.Get("image")
		image.Ref, image.OneOf = "", []*jsonschema.Schema{element, {Type: "array", Items: element, MinItems: new(uint64(1))}}
		delete(s.Definitions, "Images")
		for name, fields := range sizes {
			for _, f := range fields {
				p, _ := s.Definitions[name].Properties.Get(f)
				p.Type, p.OneOf = "", []*jsonschema.Schema{{Type: "integer", Minimum: "0"}, {Type: "string", Pattern: "^[0-9]+(KiB|MiB|GiB|s|B)$"}}
			}
		}
		for at, field := range map[string][2]string{
			"image.table": {"Image", "table"}, "image.partitions.role": {"Partition", "role"}, "image.partitions.format": {"Partition", "format"},
		} {
			p, _ := s.Definitions[field[0]].Properties.Get(field[1])
			for _, v := range targets.Ready(at) {
				p.Enum = append(p.Enum, v)
			}
		}
	},
}

// sizes are the fields with a size in bytes.
var sizes = map[string][]string{
	"Image": {"block", "page"}, "Partition": {"align", "start", "size"}, "Blob": {"skip", "length", "offset", "max"},
	"TeziBlob": {"offset"}, "Container": {"block"},
}

func TestSchemaIsCurrent(t *testing.T) { schema.Current(t) }

package adapters

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/yamlfile/schematest"
)

func schemaOf(t *testing.T, file, title string, of any, adjust func(*jsonschema.Schema)) schematest.Schema {
	texts := comments(t)
	return schematest.Schema{
		File: file, Title: title, Package: "github.com/pantavisor/pantavisor/images/adapters", Of: of, Others: []string{"../inputs", "../../targets"},
		Adjust: func(s *jsonschema.Schema) {
			for name, d := range s.Definitions {
				describe(d, texts[name])
			}
			describe(s, texts[strings.TrimPrefix(reflect.TypeOf(of).String(), "*adapters.")])
			adjust(s)
		},
	}
}

// describe gives the properties that have no description one.
func describe(s *jsonschema.Schema, texts map[string]string) {
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Value.Description == "" {
			p.Value.Description = texts[p.Key]
		}
	}
}

// comments returns those of the fields of structs that are not exported, which the schema's maker
// leaves out, by the fields' names in a file. A field without one shares that of the field above.
func comments(t *testing.T) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for _, file := range []string{"yocto.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				out[spec.Name.Name] = fields(s)
			}
			return true
		})
	}
	return out
}

func fields(s *ast.StructType) map[string]string {
	out, text := map[string]string{}, ""
	for _, f := range s.Fields.List {
		if f.Doc != nil {
			text = strings.Join(strings.Fields(f.Doc.Text()), " ")
		}
		if f.Tag != nil {
			name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml"), ",")
			out[name] = text
		}
	}
	return out
}

// whole is the schema of the list of inputs, whose fields a partial list has.
func whole(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("../inputs/inputs.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &jsonschema.Schema{}
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// partialSchema is that of the list of inputs, without what was built; what a list must have may be
// left out.
func partialSchema(t *testing.T) schematest.Schema {
	return schematest.Schema{
		File: "partial.schema.json", Title: "Partial list of inputs", Package: "github.com/pantavisor/pantavisor/images/inputs", Of: &inputs.List{},
		Others: []string{"../inputs", "../../targets"},
		Adjust: func(s *jsonschema.Schema) {
			list := whole(t)
			s.Properties, s.Definitions, s.Required = list.Properties, list.Definitions, nil
			s.Definitions["Container"].Required = []string{"name"}
			s.Definitions["Kernel"].Required = nil
			for _, field := range fromBuild {
				of, name, found := strings.Cut(field, ".")
				switch {
				case !found:
					s.Properties.Delete(of)
				case of == "kernel":
					s.Definitions["Kernel"].Properties.Delete(name)
				default:
					t.Errorf("the schema of %s is not known here", field)
				}
			}
		},
	}
}

func yoctoSchema(t *testing.T) schematest.Schema {
	return schemaOf(t, "yocto.schema.json", "List of a Yocto build", &yoctoList{}, func(*jsonschema.Schema) {})
}

func TestPartialSchemaIsCurrent(t *testing.T) { partialSchema(t).Current(t) }

func TestYoctoSchemaIsCurrent(t *testing.T) { yoctoSchema(t).Current(t) }

// TestSchemasTakeFiles has that the schemas accept what is read, and reject what is not.
func TestSchemasTakeFiles(t *testing.T) {
	dir, list := bundle(t)
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	part, err := os.ReadFile(dir + "/partial.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		schema schematest.Schema
		good   []byte
		bad    string
	}{
		{"the layer's list", yoctoSchema(t), text, `{"#spec": "pantavisor-yocto@1", "target": 1}`},
		{"a partial list", partialSchema(t), part, "kernel: {image: {path: x}}"},
		{"a part of a partial list", partialSchema(t), []byte("containers: [{name: app, block: 128KiB}]"), "containers: [{block: 1}]"},
	} {
		v := c.schema.Validator(t)
		if err := v.Validate(t, c.good); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if v.Validate(t, []byte(c.bad)) == nil {
			t.Errorf("%s: accepts %s", c.name, c.bad)
		}
	}
}

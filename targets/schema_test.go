package targets

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"

	"github.com/pantavisor/pantavisor/internal/yamlfile/schematest"
)

var schema = schematest.Schema{
	File: "target.schema.json", Title: "Target", Package: "github.com/pantavisor/pantavisor/targets", Of: &Target{},
	Adjust: func(s *jsonschema.Schema) {
		enumerate(s, "", reflect.TypeFor[Target]())
		for list, field := range map[string]string{"Emulators": "emulator", "Images": "image"} {
			oneOrMore(s, list, field)
		}
	},
}

// oneOrMore lets a field of a target and of its builds be one element of its list.
func oneOrMore(s *jsonschema.Schema, list, field string) {
	element := s.Definitions[list].Items
	for _, of := range []*jsonschema.Schema{s, s.Definitions["Build"]} {
		property, _ := of.Properties.Get(field)
		property.Ref, property.OneOf = "", []*jsonschema.Schema{element, {Type: "array", Items: element, MinItems: new(uint64(1))}}
	}
	delete(s.Definitions, list)
}

// enumerate adds what the tables of values allow to the fields of a struct and of those
// below it, and the two forms of sizes.
func enumerate(s *jsonschema.Schema, path string, of reflect.Type) {
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		at := strings.TrimPrefix(path+"."+name, ".")
		for _, v := range Ready(at) {
			property, _ := s.Definitions[of.Name()].Properties.Get(name)
			property.Enum = append(property.Enum, v)
		}
		below := f.Type
		for below.Kind() == reflect.Pointer || below.Kind() == reflect.Slice || below.Kind() == reflect.Map {
			below = below.Elem()
		}
		if below == reflect.TypeFor[Size]() {
			property, _ := s.Definitions[of.Name()].Properties.Get(name)
			if f.Type.Kind() == reflect.Map {
				property = property.AdditionalProperties
			}
			property.Type, property.OneOf = "", []*jsonschema.Schema{{Type: "integer", Minimum: "0"}, {Type: "string", Pattern: sizeForm}}
		}
		if below == reflect.TypeFor[Percent]() {
			property, _ := s.Definitions[of.Name()].Properties.Get(name)
			property.Type, property.Pattern = "string", `^[0-9]+%$`
		}
		if below.Kind() == reflect.Struct {
			enumerate(s, at, below)
		}
	}
}

// sizeForm is the form of a size with a unit, as a regular expression.
const sizeForm = `^[0-9]+(KiB|MiB|GiB|s|B)$`

func TestSchemaIsCurrent(t *testing.T) { schema.Current(t) }

func TestTargetsValidateAgainstSchema(t *testing.T) {
	v := schema.Validator(t)
	names, err := definitions(Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(Builtin(), name+"/"+FileName)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Validate(t, data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(string(data), "# yaml-language-server: $schema=../target.schema.json\n") {
			t.Errorf("%s: the first line does not name the schema for editors", name)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	v := schema.Validator(t)
	for _, text := range []string{
		"description: x\narch: {go: amd46}\n",
		"description: x\n",
		"description: x\narch: {go: amd64}\nbogus: 1\n",
		"description: x\narch: {go: amd64}\nimage: {size: 0, table: gpt, partitions: []}\n",
	} {
		if v.Validate(t, []byte(text)) == nil {
			t.Errorf("the schema lets this through:\n%s", text)
		}
		if _, err := parse("f", "x", []byte(text), nil); err == nil {
			t.Errorf("Parse lets this through:\n%s", text)
		}
	}
}

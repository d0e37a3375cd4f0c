package targets

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaFile = "target.schema.json"

var update = flag.Bool("update", false, "write "+schemaFile+" anew; the run that writes it also fails")

// schema makes the JSON schema from the struct: comments become descriptions.
func schema(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{FieldNameTag: "yaml", ExpandedStruct: true}
	if err := r.AddGoComments("github.com/pantavisor/pantavisor/targets", "./", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for name, text := range r.CommentMap {
		r.CommentMap[name] = strings.Join(strings.Fields(text), " ")
	}
	s := r.Reflect(&Target{})
	enumerate(s, "", reflect.TypeFor[Target]())
	s.ID = ""
	s.Title = "Target"
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// enumerate adds what the tables of values allow to the fields of a struct and of those
// below it.
func enumerate(s *jsonschema.Schema, path string, of reflect.Type) {
	for name, f := range fieldsOf(of) {
		at := strings.TrimPrefix(path+"."+name, ".")
		for _, v := range Ready(at) {
			property, _ := s.Definitions[of.Name()].Properties.Get(name)
			property.Enum = append(property.Enum, v)
		}
		below := f.Type
		for below.Kind() == reflect.Pointer || below.Kind() == reflect.Slice {
			below = below.Elem()
		}
		if below.Kind() == reflect.Struct {
			enumerate(s, at, below)
		}
	}
}

func TestSchemaIsCurrent(t *testing.T) {
	want := schema(t)
	got, err := os.ReadFile(schemaFile)
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal(schemaFile + " was written; run the test again without -update")
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs from the struct (go test ./targets -update):\n%s", schemaFile, diff)
	}
}

func TestSchemaDescribesEveryField(t *testing.T) {
	var s struct {
		Properties map[string]map[string]any
		Defs       map[string]struct {
			Properties map[string]map[string]any
		} `json:"$defs"`
	}
	if err := json.Unmarshal(schema(t), &s); err != nil {
		t.Fatal(err)
	}
	check := func(of string, properties map[string]map[string]any) {
		if len(properties) == 0 {
			t.Errorf("%s has no properties", of)
		}
		for name, p := range properties {
			if p["description"] == nil && p["$ref"] == nil {
				t.Errorf("%s.%s has no description", of, name)
			}
		}
	}
	check("target", s.Properties)
	for name, def := range s.Defs {
		check(name, def.Properties)
	}
}

func compiled(t *testing.T) *validator.Schema {
	t.Helper()
	f, err := os.Open(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := validator.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource(schemaFile, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is YAML in the terms of the validator.
func instance(t *testing.T, data []byte) any {
	t.Helper()
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validator.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestTargetsValidateAgainstSchema(t *testing.T) {
	s := compiled(t)
	names, err := Names(Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(Builtin(), name+"/"+FileName)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(instance(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(string(data), "# yaml-language-server: $schema=../target.schema.json\n") {
			t.Errorf("%s: the first line does not name the schema for editors", name)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	for _, text := range []string{
		"description: x\narch: {go: amd46}\n",
		"description: x\n",
		"description: x\narch: {go: amd64}\nbogus: 1\n",
		"description: x\narch: {go: amd64}\nimage: {size: 0, table: gpt, partitions: []}\n",
	} {
		if s.Validate(instance(t, []byte(text))) == nil {
			t.Errorf("the schema lets this through:\n%s", text)
		}
		if _, err := Parse("f", "x", []byte(text)); err == nil {
			t.Errorf("Parse lets this through:\n%s", text)
		}
	}
}

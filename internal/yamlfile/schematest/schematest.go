// Package schematest is shared by the tests of packages that use yamlfile. It generates
// the JSON schema of a definition file, for editors, from the struct that the file is
// read into, and compares it with the checked-in one.
package schematest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the schema anew; the run that writes it also fails")

// Schema is the schema of a kind of file.
type Schema struct {
	// File is the name of its file, in the directory of the test.
	File string
	// Title is the title of the schema: "Target".
	Title string
	// Package is the import path of the package of the test; comments of its structs
	// become descriptions.
	Package string
	// Others are directories of further packages whose structs are in it.
	Others []string
	// Of is a value of the struct.
	Of any
	// Adjust changes what the struct's tags cannot express. It may be nil.
	Adjust func(*jsonschema.Schema)
}

func (s Schema) make(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{FieldNameTag: "yaml", ExpandedStruct: true}
	for _, dir := range append([]string{"./"}, s.Others...) {
		if err := r.AddGoComments(s.Package, dir, jsonschema.WithFullComment()); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range r.CommentMap {
		r.CommentMap[name] = strings.Join(strings.Fields(text), " ")
	}
	made := r.Reflect(s.Of)
	if s.Adjust != nil {
		s.Adjust(made)
	}
	made.ID = ""
	made.Title = s.Title
	data, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// Current checks that the checked-in schema is that of the struct and describes every
// field.
func (s Schema) Current(t *testing.T) {
	t.Helper()
	want := s.make(t)
	if *update {
		if err := os.WriteFile(s.File, want, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal(s.File + " was written; run the test again without -update")
	}
	got, err := os.ReadFile(s.File)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs from the struct (go test . -update):\n%s", s.File, diff)
	}
	described(t, want)
}

func described(t *testing.T, schema []byte) {
	t.Helper()
	type object struct{ Properties map[string]map[string]any }
	var s struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	check := func(of string, o object) {
		if len(o.Properties) == 0 {
			t.Errorf("%s has no properties", of)
		}
		for name, p := range o.Properties {
			if p["description"] == nil && p["$ref"] == nil {
				t.Errorf("%s.%s has no description", of, name)
			}
		}
	}
	check("the file", s.object)
	for name, def := range s.Defs {
		check(name, def)
	}
}

// Validator validates files against the checked-in schema.
type Validator struct{ schema *validator.Schema }

// Validator reads the checked-in schema.
func (s Schema) Validator(t *testing.T) Validator {
	t.Helper()
	text, err := os.ReadFile(s.File)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource(s.File, doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile(s.File)
	if err != nil {
		t.Fatal(err)
	}
	return Validator{compiled}
}

// Validate returns the schema's errors for a YAML file.
func (v Validator) Validate(t *testing.T, data []byte) error {
	t.Helper()
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v.schema.Validate(doc)
}

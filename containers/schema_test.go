package containers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/yamlfile/schematest"
)

var schema = schematest.Schema{
	File: "container.schema.json", Title: "Container", Package: "github.com/pantavisor/pantavisor/containers", Of: &Definition{},
}

func TestSchemaIsCurrent(t *testing.T) { schema.Current(t) }

func TestContainersValidateAgainstSchema(t *testing.T) {
	t.Parallel()
	v := schema.Validator(t)
	names, err := shipped().Names(directory, definitionFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(name, definitionFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Validate(t, data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(string(data), "# yaml-language-server: $schema=../container.schema.json\n") {
			t.Errorf("%s: the first line does not name the schema for editors", name)
		}
	}
	if err := v.Validate(t, []byte(demo)); err != nil {
		t.Error(err)
	}
}

func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	v := schema.Validator(t)
	for _, text := range []string{
		"command: [x]\n",
		"description: x\ncommand: x\n",
		"description: x\ncommand: [x]\nroles: [king]\n",
		"description: x\ncommand: [x]\nbogus: 1\n",
		"description: x\ncommand: [x]\nroot: {links: [{target: x}]}\n",
		"description: x\ncommand: [x]\nroot: {programs: [{package: x, path: y, mode: 1}]}\n",
		"description: x\ncommand: [x]\npersistence: {/a: [boot]}\n",
	} {
		if v.Validate(t, []byte(text)) == nil {
			t.Errorf("the schema lets this through:\n%s", text)
		}
		if _, err := parsed("f", "x", []byte(text)); err == nil {
			t.Errorf("Parse lets this through:\n%s", text)
		}
	}
}

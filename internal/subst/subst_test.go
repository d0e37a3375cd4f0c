package subst

import (
	"bytes"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
)

type line struct{ Unit, Speed int }

// TestAsTextTemplate compares with text/template, whose language this is a part of.
func TestAsTextTemplate(t *testing.T) {
	t.Parallel()
	data := map[string]any{
		"Name": "x", "Number": 7, "Empty": "", "None": []string{}, "List": []line{{1, 2}, {3, 4}}, "Words": []string{"a", "b"}, "Line": &line{5, 6}, "Nil": (*line)(nil),
	}
	for _, text := range []string{
		"plain\n", "{{.Name}} {{.Number}}", "{{- range .List}}\n{{.Unit}} {{$.Name}} {{.Speed}}{{end}}\n", "{{range .Words}}<{{.}}>{{end}}",
		"{{if .Empty}}yes{{else}}no{{end}}", "{{if .Name -}}  yes{{end}}", "{{if .None}}1{{else if .Line}}2 {{.Line.Unit}}{{else}}3{{end}}",
		"{{if .Nil}}1{{else}}2{{end}}", "{{range .None}}x{{end}}{{$.Line.Speed}}",
	} {
		var want bytes.Buffer
		if err := template.Must(template.New("t").Parse(text)).Execute(&want, data); err != nil {
			t.Fatal(err)
		}
		got, err := Must("t", text).Fill(data)
		if diff := cmp.Diff(want.String(), got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"{{.No}}", "{{.Name.No}}", "{{if .No}}{{end}}", "{{range .No}}{{end}}", "{{with .Name}}{{end}}", "{{.A .B}}"} {
		if got, err := Must("t", text).Fill(map[string]any{"Name": "x"}); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

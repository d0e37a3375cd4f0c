package container

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/app/template"
)

// odd are texts that a configuration's lines, quotes or fields could change.
var odd = []string{
	"plain", "two words", "ends ", " begins", "\ttab", `"double"`, `'single'`, `"both" 'of' them`, `say "q"; x`, `a" "b`, `a""b`, "it's", "two\nlines",
	"\n", "cr\r", `back\slash`, `\040`, "a:b", "a=b", "#hash", "a,b", "ümläut", "\u00a0space\u00a0", "\u2028", "$HOME `x`", `"`, `'`, `"'`, " ", "",
}

// image renders an application with this docker_config and reads it as the device does.
func image(t *testing.T, docker map[string]any) *Config {
	t.Helper()
	src, err := json.Marshal(map[string]any{"template": template.Builtin, "docker_config": docker})
	if err != nil {
		t.Fatal(err)
	}
	out, err := template.Render(template.Input{Name: "app", Source: src})
	if err != nil {
		t.Fatal(err)
	}
	c, notes, err := Parse(bytes.NewReader(out.Config))
	if err != nil || len(notes) > 0 {
		t.Fatalf("%v %v in\n%s", err, notes, out.Config)
	}
	return c
}

// TestImagesComeThrough renders every odd text in every place of an image's configuration
// that holds one; the launcher gets exactly it.
func TestImagesComeThrough(t *testing.T) {
	t.Parallel()
	for _, text := range odd {
		for name, c := range map[string]struct {
			docker map[string]any
			want   []string
		}{
			"Cmd":        {map[string]any{"Cmd": []string{"/a", text, "z"}}, []string{"/a", text, "z"}},
			"last":       {map[string]any{"Cmd": []string{"/a", text}}, []string{"/a", text}},
			"first":      {map[string]any{"Cmd": []string{text, "b"}}, []string{text, "b"}},
			"Entrypoint": {map[string]any{"Entrypoint": []string{"/e", text}, "Cmd": []string{text, text}}, []string{"/e", text, text, text}},
			"one string": {map[string]any{"Entrypoint": []string{"/e"}, "Cmd": text}, []string{"/e", text}},
		} {
			if text == "" && (name == "one string" || name == "first") {
				continue // no command, and no program: both are rejected
			}
			if d := cmp.Diff(c.want, image(t, c.docker).Init); d != "" {
				t.Errorf("%s of %q (-want +got)\n%s", name, text, d)
			}
		}
		c := image(t, map[string]any{"Env": []string{"A=" + text, "B=1"}, "WorkingDir": "/" + text, "Volumes": map[string]any{"/v/" + text + "/x": nil}})
		if d := cmp.Diff([]string{"A=" + text, "B=1"}, c.Env); d != "" {
			t.Errorf("Env %q (-want +got)\n%s", text, d)
		}
		if c.Cwd != "/"+text {
			t.Errorf("WorkingDir %q is read as %q", "/"+text, c.Cwd)
		}
		want := "/v/" + text + "/x"
		if text == "" {
			want = "/v/x"
		}
		if m := c.Mounts[len(c.Mounts)-1]; m.Target != want || m.Flags != unix.MS_BIND || m.Create != "dir" {
			t.Errorf("volume %q is read as %+v", want, m)
		}
	}
}

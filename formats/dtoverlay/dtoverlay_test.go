package dtoverlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

const base = `/dts-v1/;
/ {
	compatible = "board";
	#address-cells = <1>;
	soc: soc { gpio: gpio@1 { gpio-controller; }; uart0: serial@2 { status = "disabled"; }; };
	other { gpios = <&gpio 1>; };
};
`

const first = `/dts-v1/;
/plugin/;
&uart0 { status = "okay"; pins = <&mine 3>, <&gpio 4>; };
&{/} { leds { mine: led@0 { gpios = <&gpio 7 0>; label = "a"; }; }; };
&soc { gpio@1 { further; }; };
`

const second = `/dts-v1/;
/plugin/;
&mine { label = "b"; };
`

// compile returns what dtc makes of a source.
func compile(t testing.TB, source string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "dtc", "-@", "-q", "-I", "dts", "-O", "dtb")
	cmd.Stdin = strings.NewReader(source)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dtc: %v", err)
	}
	return out
}

// sorted returns a tree as dtc shows it, without the labels, whose order is free.
func sorted(t *testing.T, dtb []byte) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "dtc", "-q", "-s", "-I", "dtb", "-O", "dts")
	cmd.Stdin = strings.NewReader(string(dtb))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dtc: %v", err)
	}
	return string(out)
}

// TestOverlaysAsFdtoverlay compares with the reference program.
func TestOverlaysAsFdtoverlay(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dtc", "fdtoverlay")
	dir := t.TempDir()
	files := map[string][]byte{"base": compile(t, base), "first": compile(t, first), "second": compile(t, second)}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "fdtoverlay", "-i", "base", "-o", "want", "first", "second")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("fdtoverlay: %v\n%s", err, out)
	}
	want, err := os.ReadFile(filepath.Join(dir, "want"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Apply(files["base"], files["first"], files["second"])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sorted(t, want), sorted(t, got)); diff != "" {
		t.Error(diff)
	}
}

func TestOverlaysThatDoNotFit(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dtc")
	good := compile(t, base)
	for name, c := range map[string]struct {
		base, overlay []byte
		want          string
	}{
		"no label":     {good, compile(t, "/dts-v1/; /plugin/; &nobody { a; };"), "has no label nobody"},
		"no path":      {good, compile(t, "/dts-v1/; /plugin/; &{/nowhere} { a; };"), "has no node /nowhere"},
		"no tree":      {good, []byte("no tree"), "reading overlay 1"},
		"no base":      {nil, good, "reading the device tree"},
		"cut off":      {good, compile(t, first)[:200], "reading overlay 1"},
		"label behind": {compile(t, strings.ReplaceAll(base, "uart0: ", "")), compile(t, first), "has no label uart0"},
	} {
		if _, err := Apply(c.base, c.overlay); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte("\xd0\x0d\xfe\xed"), []byte("\xd0\x0d\xfe\xed"))
	oracle.Need(f, "dtc")
	f.Add(compile(f, base), compile(f, first))
	f.Add(compile(f, base), compile(f, second))
	f.Fuzz(func(_ *testing.T, base, overlay []byte) {
		_, _ = Apply(base, overlay)
	})
}

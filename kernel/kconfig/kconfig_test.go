package kconfig

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func parse(t *testing.T, fragment, text string) []Option {
	t.Helper()
	out, err := Parse(fragment, text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLaterFragmentsWin: the last word on an option counts, and an option that is switched off
// is a line of its own.
func TestLaterFragmentsWin(t *testing.T) {
	t.Parallel()
	options := append(
		parse(t, "base", "# what all need\nCONFIG_SMP=y\n\nCONFIG_HZ=250\nCONFIG_LOCALVERSION=\"-pv a=\\\"b\"\n"),
		parse(t, "board", "# CONFIG_SMP is not set\n  CONFIG_HZ=0x64\nCONFIG_NEW=m\nCONFIG_OLD=n\n")...)
	const want = "# CONFIG_SMP is not set\nCONFIG_HZ=0x64\nCONFIG_LOCALVERSION=\"-pv a=\\\"b\"\nCONFIG_NEW=m\n# CONFIG_OLD is not set\n"
	merged := Merge(options)
	if diff := cmp.Diff(want, string(Text(merged))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if o := merged[0]; o.Fragment != "board" || o.Line != 1 {
		t.Errorf("%+v does not say where it stands", o)
	}
}

func TestLinesThatAreNoOptions(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"SMP=y", "CONFIG_SMP", "CONFIG_SMP=yes", "CONFIG_SMP = y", "CONFIG_=y", `CONFIG_A="b`, `CONFIG_A="b\"`, "CONFIG_SMP=y # why"} {
		_, err := Parse("board", "CONFIG_A=y\n"+line+"\n")
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "board:2: ") {
			t.Errorf("%s: kind %v: %v", line, fault.Of(err), err)
		}
	}
}

// TestLostOptionsAreExplained: whatever is not in the .config as it was asked for, with what the
// kernel says of it.
func TestLostOptionsAreExplained(t *testing.T) {
	t.Parallel()
	want := parse(t, "f", `CONFIG_KEPT=y
CONFIG_GONE=y
CONFIG_ZRAM=y
CONFIG_HIDDEN=y
CONFIG_OTHER=m
# CONFIG_FORCED is not set
# CONFIG_ABSENT is not set
`)
	const config = "# CONFIG_ZRAM is not set\nCONFIG_KEPT=y\nCONFIG_OTHER=y\nCONFIG_FORCED=y\n"
	lost, err := Lost(want, config)
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{
		"drivers/zram/Kconfig": {Data: []byte("menuconfig ZRAM\n\ttristate \"RAM disk\"\n\tdepends on BLOCK\n\tdepends on ZSMALLOC || X\n\thelp\n\t  text\nconfig ZRAM_X\n\tbool \"x\"\n\tdepends on NO\n")},
		"lib/Kconfig.extra":    {Data: []byte("config HIDDEN\n\tbool\n\nconfig OTHER\n\ttristate \"other\"\nif NO\nconfig FORCED\n\tbool \"f\"\nendif\n\tdepends on MENU\n")},
		"arch/arm/Kconfig":     {Data: []byte("config OTHER\n\tbool \"of another architecture\"\n")},
		"tools/Kconfig":        {Data: []byte("config GONE\n\tbool \"not the kernel's\"\n")},
	}
	got, err := Explain(tree, "x86", lost)
	if err != nil {
		t.Fatal(err)
	}
	const explained = `CONFIG_GONE=y (f:2): this kernel has no such option
CONFIG_ZRAM=y (f:3): drivers/zram/Kconfig:1 depends on BLOCK and ZSMALLOC || X
CONFIG_HIDDEN=y (f:4): lib/Kconfig.extra:1 has no question for it, other options turn it on
CONFIG_OTHER=m (f:5): lib/Kconfig.extra:4
# CONFIG_FORCED is not set (f:6): lib/Kconfig.extra:7`
	if diff := cmp.Diff(explained, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

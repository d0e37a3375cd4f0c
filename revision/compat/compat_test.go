package compat

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Term{
		"arch:arm64":         {Kind: Arch, Name: "arm64"},
		"board:rpi64=2":      {Kind: Board, Name: "rpi64", Op: "=", Version: "2"},
		"kernel>=6.1":        {Name: Kernel, Op: ">=", Version: "6.1"},
		"kernel:squashfs":    {Kind: Feature, Name: "squashfs"},
		"container:web<1~rc": {Kind: Container, Name: "web", Op: "<", Version: "1~rc"},
		"runtime>2026.1":     {Name: Runtime, Op: ">", Version: "2026.1"},
		"camera<=v2":         {Name: "camera", Op: "<=", Version: "v2"},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if got.String() != text {
			t.Errorf("%s is written as %s", text, got)
		}
	}
}

func TestParseSaysWhereAndWhatMends(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                        "column 1: a name is missing",
		"arhc:arm64":              "column 1: kind \"arhc\" is unknown; known are arch,",
		"arch:":                   "column 6: a name is missing",
		"kernel:a:b":              "column 9: ':' cannot be in a name",
		"a b":                     "column 2: ' ' cannot",
		"kernel>=":                "column 9: a version is missing behind >=",
		"kernel=>6":               "column 7: operator \"=>\" is unknown; known are = < <= > >=",
		"kernel>=-6":              "column 9: \"-6\" is not a version",
		"kernel>=6>7":             "column 9: \"6>7\" is not a version",
		strings.Repeat("a", 1000): "longer than 256 bytes",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v; want %q", text, err, want)
		}
	}
	if _, err := ParseProvided("kernel>=6.1"); err == nil || !strings.Contains(err.Error(), "column 7: a part provides one version; write kernel=6.1") {
		t.Error(err)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"a", "b>=1", "c"}, Split(" a,b>=1\n\tc, ")); diff != "" {
		t.Error(diff)
	}
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	ascending := []string{"0", "0.9", "1~~", "1~rc1", "1", "1a", "1.0", "1.9", "1.10", "1.10.1", "2-rc1", "v2", "2-1", "5.10", "6.1", "6.6.31", "6.6.31-v8+", "6.10.0-rc7", "6.10.0", "2026.1", "18446744073709551616.1"}
	for i, a := range ascending {
		for j, b := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := compareVersions(a, b); got != want {
				t.Errorf("%s to %s: %d, want %d", a, b, got, want)
			}
		}
	}
	if compareVersions("1.01", "v1.1") != 0 {
		t.Error("leading zeros and v count")
	}
}

// The rule is Debian's, so its tool is the judge.
func TestCompareVersionsAsDebian(t *testing.T) {
	t.Parallel()
	dpkg := oracle.Program(t, "dpkg")
	versions := []string{"1", "1.0", "1.0~a", "1.0a", "1.0+b", "1.00", "1.10", "1.9", "1~", "2a1", "2a02", "20.z", "20.Z", "1.a.b", "1..b"}
	for i, a := range versions {
		for _, b := range versions[:i] {
			for op, word := range map[string]string{"<": "lt", ">": "gt"} {
				want := exec.Command(dpkg, "--compare-versions", a, word, b).Run() == nil
				if got := meets(a, op, b); got != want {
					t.Errorf("%s %s %s is %v, dpkg says %v", a, op, b, got, want)
				}
			}
		}
	}
}

// part makes a part: words are provided, "?word" is required, "!word" is in conflict.
func part(t *testing.T, name, words string) Part {
	t.Helper()
	p := Part{Name: name}
	for _, w := range strings.Fields(words) {
		list := &p.Provides
		switch w[0] {
		case '?':
			list, w = &p.Requires, w[1:]
		case '!':
			list, w = &p.Conflicts, w[1:]
		}
		term, err := Parse(w)
		if err != nil {
			t.Fatal(err)
		}
		*list = append(*list, term)
	}
	return p
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const bsp = "arch:arm64 board:rpi64 kernel=6.1.5 kernel:squashfs"
	for name, c := range map[string]struct{ bsp, web, db, want string }{
		"all there":                        {bsp, "?arch:arm64 ?board:rpi64 ?kernel>=6.1 ?kernel<7 ?kernel:squashfs ?container:db>=1.2", "container:db=1.10", ""},
		"architecture":                     {bsp, "?arch:amd64", "", "web requires arch:amd64, bsp provides arch:arm64"},
		"board":                            {bsp, "?board:x64", "", "web requires board:x64, bsp provides board:rpi64"},
		"kernel too old":                   {bsp, "?kernel>=6.2", "", "web requires kernel>=6.2, bsp provides kernel=6.1.5"},
		"kernel feature":                   {bsp, "?kernel:dm", "", "web requires kernel:dm, bsp does not provide it"},
		"silent BSP":                       {"", "?arch:amd64 ?kernel>=9 ?kernel:dm ?runtime>=9 ?driver:x", "", ""},
		"runtime not known":                {bsp, "?runtime>=2026.1", "", ""},
		"container missing":                {bsp, "?container:mq", "", "web requires container:mq, which nothing provides"},
		"container unversion":              {bsp, "?container:db>=1", "container:db", "web requires container:db>=1, db provides container:db"},
		"free name":                        {"", "?camera", "", "web requires camera, which nothing provides"},
		"free name, version":               {"camera=1", "?camera=2", "", "web requires camera=2, bsp provides camera=1"},
		"conflict":                         {bsp, "!role:mgmt", "role:mgmt", "web conflicts with role:mgmt, db provides role:mgmt"},
		"conflict of two":                  {bsp, "!camera", "camera", "web conflicts with camera, db provides camera"},
		"it does not conflict with itself": {bsp, "role:mgmt !role:mgmt", "", ""},
		"conflict by version":              {bsp, "!kernel<6.1", "!kernel>=6.1", "db conflicts with kernel>=6.1, bsp provides kernel=6.1.5"},
		"several":                          {bsp, "?a ?b", "", "web requires a, which nothing provides; web requires b, which nothing provides"},
		"BSP's own":                        {bsp + " ?container:db", "", "", "bsp requires container:db, which nothing provides"},
	} {
		got := Check([]Part{part(t, "bsp", c.bsp), part(t, "web", c.web), part(t, "db", c.db)})
		if got.Error() != c.want || (got == nil) != (c.want == "") {
			t.Errorf("%s: %q, want %q", name, got.Error(), c.want)
		}
	}
}

func TestUnknownIsWhatIsNotJudged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ bsp, web, want string }{
		"silent BSP":   {"", "?kernel>=6 !kernel:dm ?camera", "web requires kernel>=6; no part says what there is of that kind\nweb conflicts with kernel:dm; no part says what there is of that kind"},
		"BSP declares": {"kernel=6.1 kernel:dm", "?kernel>=7 !kernel:dm ?kernel:x", ""},
		"its own":      {"", "board:a ?board:a", ""},
	} {
		got := strings.Join(Unknown([]Part{part(t, "bsp", c.bsp), part(t, "web", c.web)}), "\n")
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestCheckStated(t *testing.T) {
	t.Parallel()
	bsp := Part{Name: "bsp", States: []string{Drivers}}
	got := Check([]Part{bsp, part(t, "web", "?driver:wifi")}).Error()
	if want := "web requires driver:wifi, bsp does not provide it"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	kernel := part(t, "kernel", "kernel:ext4")
	if got := Check([]Part{kernel, part(t, "web", "?kernel:dm")}).Error(); got != "web requires kernel:dm, kernel does not provide it" {
		t.Errorf("%q", got)
	}
	kernel.Some = []string{Feature + ":"}
	if got := Check([]Part{kernel, part(t, "web", "?kernel:ext4 ?kernel:dm")}); got != nil {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"kernel>=6.1", "arch:arm64", "a=1", ":", "container:\u00e4<2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		term, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(term.String())
		if err != nil || again != term || term.String() != text {
			t.Errorf("%q is written as %q: %v", text, term, err)
		}
		if words := Split(text); len(words) != 1 || words[0] != text {
			t.Errorf("%q cannot be in a list", text)
		}
	})
}

package vulns

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// ascending are versions in their order, equal ones in one element with blanks between them.
var ascending = map[string][]string{
	"deb": {
		"0~~", "0~", "0 00 0-0", "0-1", "0a", "0+", "0.1", "1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-1~bpo12+1", "1.0-1", "1.0-1+deb12u1", "1.0-1.1", "1.0-10",
		"1.0+dfsg-1", "1.0.4-1", "6.1.153-1", "12", "99999999999999999999999999", "1:0", "2:0.1",
	},
	"apk": {
		"0.01.1", "0.1_alpha", "0.1_alpha2", "0.1_beta", "0.1_pre1", "0.1_rc1", "0.1", "0.1_git20200101", "0.1_p1", "0.1a", "0.1a-r1", "0.2", "1.2.3-r0 1.2.3", "1.2.3-r1", "1.2.3-r10",
		"1.2.3.1", "1.10",
	},
	"rpm": {
		"1.0~rc1-1", "1.0-1", "1.0-1.el9 1.0-1_el9", "1.0^git1-1", "1.0a-1", "1.0.1-1", "1.2-1", "1.10-1 1.010-1", "2.0-1", "1:0.1-1",
	},
	"pep440": {
		"1.0.dev1", "1.0a1.dev1", "1.0a1 1.0-alpha.1 v1.0A1", "1.0a2", "1.0b1", "1.0rc1 1.0c1", "1.0 1.0.0", "1.0+abc", "1.0+5", "1.0.post1.dev1", "1.0.post1 1.0-1", "1.0.1", "1.10", "1!0.1",
	},
	"semver": {
		"0.0.0-20210101000000-aaaaaaaaaaaa", "0 0.0.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0-rc.1", "1.0.0 v1.0.0 1.0.0+build 1", "1.2.3", "1.10.0", "1.21rc2 1.21.0-rc.2", "1.21.0 go1.21",
		"2.0.0+incompatible 2.0",
	},
	"kernel": {"2.6.12", "5.10.0 5.10", "5.10.251", "6.13-rc3", "6.13-rc10", "6.13"},
}

var orders = map[string]order{"deb": debOrder, "apk": apkOrder, "rpm": rpmOrder, "pep440": pep440Order, "semver": semverOrder, "kernel": kernelOrder}

func TestOrders(t *testing.T) {
	t.Parallel()
	for form, list := range ascending {
		compare := orders[form]
		for i, group := range list {
			for j, other := range list {
				for _, a := range strings.Fields(group) {
					for _, b := range strings.Fields(other) {
						c, err := compare(a, b)
						if want := min(max(i-j, -1), 1); err != nil || min(max(c, -1), 1) != want {
							t.Errorf("%s: %s and %s: %d, %v; want %d", form, a, b, c, err, want)
						}
					}
				}
			}
		}
	}
}

func TestNotVersions(t *testing.T) {
	t.Parallel()
	for form, list := range map[string][]string{
		"deb": {"", "1 0", "1:", ":1", "x:1", "1_0", "1.2-", "ü", strings.Repeat("1", 600)}, "apk": {"", "a", "1.0-1", "1_foo1", "1..2"}, "rpm": {"", "1 0", "ü"},
		"pep440": {"", "one", "1.0-", "1.0+"}, "semver": {"", "latest", "1.2.3.4", "(devel)", "01.2.3"}, "kernel": {"", "6.x"},
	} {
		for _, v := range list {
			for _, pair := range [][2]string{{v, "1"}, {"1", v}} {
				_, err := orders[form](pair[0], pair[1])
				if wrong := (*versionError)(nil); !errors.As(err, &wrong) {
					t.Errorf("%s: %q is taken for a version: %v", form, v, err)
				}
			}
		}
	}
}

// TestDebianOrderIsThatOfDpkg asks dpkg.
func TestDebianOrderIsThatOfDpkg(t *testing.T) {
	t.Parallel()
	dpkg := oracle.Program(t, "dpkg")
	var all []string
	for _, group := range ascending["deb"] {
		all = append(all, strings.Fields(group)...)
	}
	all = append(all, "1.2.3-4-5", "1.2a+b~c", "1.2a.b", "0.0.0", "7.88.1-10+deb12u14", "7.88.1-10+deb12u5")
	for _, a := range all {
		for _, b := range all {
			c, err := debOrder(a, b)
			if err != nil {
				t.Fatal(err)
			}
			op := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[min(max(c, -1), 1)]
			if out, err := exec.CommandContext(t.Context(), dpkg, "--compare-versions", a, op, b).CombinedOutput(); err != nil {
				t.Errorf("dpkg does not agree that %s %s %s: %s", a, op, b, out)
			}
		}
	}
}

// FuzzOrders checks the laws of an order.
func FuzzOrders(f *testing.F) {
	for _, list := range ascending {
		for i := range len(list) - 2 {
			f.Add(strings.Fields(list[i])[0], strings.Fields(list[i+1])[0], strings.Fields(list[i+2])[0])
		}
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for form, compare := range orders {
			ab, err1 := compare(a, b)
			ba, err2 := compare(b, a)
			bc, err3 := compare(b, c)
			ac, err4 := compare(a, c)
			if err := errors.Join(err1, err2, err3, err4); err != nil {
				continue
			}
			if aa, _ := compare(a, a); aa != 0 {
				t.Fatalf("%s: %q is not equal to itself", form, a)
			}
			if (ab < 0) != (ba > 0) || (ab == 0) != (ba == 0) {
				t.Fatalf("%s: %q and %q: %d, and %d the other way", form, a, b, ab, ba)
			}
			if ab <= 0 && bc <= 0 && ac > 0 || ab == 0 && bc == 0 && ac != 0 {
				t.Fatalf("%s: %q, %q, %q are not in an order", form, a, b, c)
			}
		}
	})
}

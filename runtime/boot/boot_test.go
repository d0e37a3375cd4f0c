package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian/partstest"
)

// The table of the package comment.
func TestDecide(t *testing.T) {
	tests := []struct {
		booted   string
		rev, try string
		want     Running
	}{
		{"3", "3", "", Running{"3", "3", "", Steady}},
		{"4", "3", "4", Running{"4", "3", "4", Trying}},
		{"3", "3", "4", Running{"3", "3", "4", RolledBack}},
		{"3", "3", "3", Running{"3", "3", "3", Trying}},
		{"9", "3", "", Running{"9", "3", "", Foreign}},
		{"9", "3", "4", Running{"9", "3", "4", Foreign}},
		{"", "3", "", Running{"3", "3", "", Steady}},
		{"", "3", "4", Running{"3", "3", "4", RolledBack}},
		{"3", "", "", Running{"3", "3", "", Steady}},
		{"4", "", "4", Running{"4", "0", "4", Trying}},
		{"", "", "", Running{"0", "0", "", Steady}},
		{"", "", "4", Running{"0", "0", "4", RolledBack}},
		{"locals/a", "0", "locals/a", Running{"locals/a", "0", "locals/a", Trying}},
	}
	for _, tc := range tests {
		got := Decide(tc.booted, Values{tc.rev, tc.try})
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("booted %q, rev %q, try %q (-want +got):\n%s", tc.booted, tc.rev, tc.try, diff)
		}
	}
}

func TestStateNames(t *testing.T) {
	got := []string{Steady.String(), Trying.String(), RolledBack.String(), Foreign.String(), State(9).String()}
	if diff := cmp.Diff([]string{"steady", "trying", "rolled back", "foreign", "state 9"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBooted(t *testing.T) {
	tests := []struct {
		name    string
		env     []string
		cmdline string
		want    string
		bad     bool
	}{
		{"environment first", []string{"HOME=/", "pv_rev=5"}, "quiet pv_rev=4", "5", false},
		{"command line", []string{"pv_revision=7"}, "quiet pv_rev=4 panic=5\n", "4", false},
		{"empty is not set", []string{"pv_rev="}, "pv_rev=", "", false},
		{"none", nil, "pv_try=3", "", false},
		{"local", nil, "pv_rev=locals/test-1", "locals/test-1", false},
		{"out of the trails", nil, "pv_rev=../../etc", "../../etc", true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Booted(tc.env, tc.cmdline)
			if got != tc.want || (err != nil) != tc.bad {
				t.Errorf("%q, %v; want %q, error %v", got, err, tc.want, tc.bad)
			}
		})
	}
	if _, err := FromSystem(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, good := range []string{"0", "17", "locals/x", "locals/2026-11-21_a+b:c.d", strings.Repeat("a", 64)} {
		if err := Validate(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "locals/", "a/b", "..", ".", "locals/..", "locals/.x", "a b", "a\nb", "a\x00", "current", "locals/a/b", "/0", strings.Repeat("a", 65)} {
		if err := Validate(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// stores are the implementations, each on an empty storage.
func stores(t *testing.T) map[string]*file {
	t.Helper()
	out := map[string]*file{}
	for _, loader := range []string{"grub", "uboot", "uboot-pvk"} {
		s, err := Open(loader, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		out[loader] = s.(*file)
	}
	return out
}

func TestStoreLifeOfAnUpdate(t *testing.T) {
	for loader, s := range stores(t) {
		steps := []struct {
			do   func() error
			want Values
		}{
			{func() error { return nil }, Values{}},
			{func() error { return s.Commit("0") }, Values{Rev: "0"}},
			{func() error { return s.SetTry("1") }, Values{Rev: "0", Try: "1"}},
			{func() error { return s.SetTry("locals/b") }, Values{Rev: "0", Try: "locals/b"}},
			{s.ClearTry, Values{Rev: "0"}},
			{func() error { return s.SetTry("2") }, Values{Rev: "0", Try: "2"}},
			{func() error { return s.Commit("2") }, Values{Rev: "2"}},
		}
		for i, step := range steps {
			if err := step.do(); err != nil {
				t.Fatalf("%s step %d: %v", loader, i, err)
			}
			got, err := s.Load()
			if diff := cmp.Diff(step.want, got); diff != "" || err != nil {
				t.Errorf("%s step %d: %v (-want +got):\n%s", loader, i, err, diff)
			}
		}
	}
}

func TestStoreRefusesNames(t *testing.T) {
	for loader, s := range stores(t) {
		for _, bad := range []string{"", "a\nb", "a\x00pv_rev=9", "../1"} {
			if s.SetTry(bad) == nil || s.Commit(bad) == nil {
				t.Errorf("%s took %q", loader, bad)
			}
		}
		if _, err := os.Stat(s.path); err == nil {
			t.Errorf("%s was written", s.path)
		}
	}
}

func TestDetect(t *testing.T) {
	for _, loader := range []string{"grub", "uboot"} {
		dir := t.TempDir()
		if got := Detect(dir); got != "" {
			t.Errorf("an empty storage: %q", got)
		}
		s, err := Open(loader, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit("0"); err != nil {
			t.Fatal(err)
		}
		if got := Detect(dir); got != loader {
			t.Errorf("%q, want %q", got, loader)
		}
	}
}

func TestOpenUnknown(t *testing.T) {
	if _, err := Open("lilo", "/"); err == nil || !strings.Contains(err.Error(), "PV_BOOTLOADER_TYPE") {
		t.Errorf("%v, want the setting's name", err)
	}
}

// Bytes that peers read: U-Boot's script, and GRUB.
func TestStoreBytes(t *testing.T) {
	s := stores(t)
	for _, f := range s {
		if err := f.Commit("0"); err != nil {
			t.Fatal(err)
		}
		if err := f.SetTry("1"); err != nil {
			t.Fatal(err)
		}
	}
	list := func(text string) string { return text + strings.Repeat("\x00", 512-len(text)) }
	if got := content(t, s["uboot"]); got != list("pv_rev=0\x00pv_try=1\x00pv_trial=1\x00\x00") {
		t.Errorf("uboot.txt: %q", got)
	}
	want := "# GRUB Environment Block\npv_rev=0\npv_trial=1\npv_try=1\n"
	want += strings.Repeat("#", 1024-len(want))
	if got := content(t, s["grub"]); got != want {
		t.Errorf("grubenv: %q", got)
	}
	if err := s["uboot"].ClearTry(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s["uboot"]); got != list("pv_rev=0\x00pv_try=\x00pv_trial=1\x00\x00") {
		t.Errorf("uboot.txt without a try: %q", got)
	}
}

func content(t *testing.T, f *file) string {
	t.Helper()
	b, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// GRUB's own program reads what we write and we read what it writes.
func TestGrubEditenvAgrees(t *testing.T) {
	editenv := partstest.Program(t, "grub-common", "grub-editenv")
	s := stores(t)["grub"]
	if err := s.Commit("locals/a-b"); err != nil {
		t.Fatal(err)
	}
	if out, err := editenv(s.path, "list").CombinedOutput(); err != nil || string(out) != "pv_rev=locals/a-b\n" {
		t.Errorf("list: %q, %v", out, err)
	}
	if out, err := editenv(s.path, "set", "pv_try=7", `odd=a\b`).CombinedOutput(); err != nil {
		t.Fatalf("set: %s %v", out, err)
	}
	if err := s.Commit("7"); err != nil {
		t.Fatal(err)
	}
	if out, err := editenv(s.path, "list").CombinedOutput(); err != nil || string(out) != "odd=a\\b\npv_rev=7\n" {
		t.Errorf("list: %q, %v", out, err)
	}
}

const grubHeader = "# GRUB Environment Block\n"

func TestReadOtherMakersFiles(t *testing.T) {
	tests := []struct {
		name, loader, content string
		want                  Values
		bad                   bool
	}{
		{"old uboot.txt of 64 KiB", "uboot", "pv_rev=3\x00pv_try=4\x00" + strings.Repeat("\x00", 65000), Values{"3", "4"}, false},
		{"text with lines", "uboot", "pv_rev = 0\n", Values{"0", ""}, false},
		{"longer keys", "uboot", "pv_trying=5\x00pv_revx=6\x00pv_rev=1\x00\x00", Values{"1", ""}, false},
		{"behind the end", "uboot", "pv_rev=1\x00\x00pv_try=2\x00\x00", Values{"1", ""}, false},
		{"grub keys of others", "grub", grubHeader + "pv_trying=5\nsaved_entry=x\npv_rev=2\n####", Values{"2", ""}, false},
		{"grub escapes", "grub", grubHeader + "x=a\\\nb\npv_rev=2\n#", Values{"2", ""}, false},
		{"damaged grubenv", "grub", strings.Repeat("#", 4096), Values{}, true},
		{"far too large", "uboot", strings.Repeat("x", maxStore+1), Values{}, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := stores(t)[tc.loader]
			if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.path, []byte(tc.content), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := s.Load()
			if diff := cmp.Diff(tc.want, got); diff != "" || (err != nil) != tc.bad {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if err := s.Commit("8"); err != nil {
				t.Fatalf("committing over it: %v", err)
			}
			if got, err := s.Load(); err != nil || got != (Values{Rev: "8"}) {
				t.Errorf("after a commit: %+v, %v", got, err)
			}
		})
	}
}

func TestStoreTooFull(t *testing.T) {
	for loader, s := range stores(t) {
		big := []pair{{"a", strings.Repeat("x", 1024)}}
		if _, err := s.form.encode(big); err == nil {
			t.Errorf("%s encoded more than fits", loader)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("pv_rev=0\x00\x00"))
	f.Add([]byte(grubHeader + "a=\\\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, form := range []form{grubEnv{}, uboot{}} {
			pairs, err := form.decode(b)
			if err != nil {
				continue
			}
			again, err := form.encode(set(pairs, keyTry, "7"))
			if err != nil {
				continue
			}
			back, err := form.decode(again)
			if err != nil || get(back, keyTry) != "7" {
				t.Errorf("%T: %q became %q: %v", form, b, again, err)
			}
		}
	})
}

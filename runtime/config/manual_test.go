package config

import (
	"bufio"
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rows reads a table of the directory testdata: words, a line each.
func rows(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 0 && words[0] != "#" {
			out = append(out, words)
		}
	}
	if len(out) < 50 {
		t.Fatalf("%s has %d rows", name, len(out))
	}
	return out
}

// sourceOf is the level that a letter of the tables stands for.
var sourceOf = map[rune]Level{'f': PVConf, 'h': PHConf, 'b': PVCmdline, 'p': Policy, 'o': OEM, 'm': Meta}

// otherDefault are defaults that differ from the manual's table, and why.
var otherDefault = map[string]string{
	"PV_LOG_DIR_MAXSIZE":           "0", // as the manual's page about logs has it: automatic
	"PV_SECUREBOOT_TRUSTSTORE":     "ca-certificates",
	"PV_SECUREBOOT_OEM_TRUSTSTORE": "ca-oem-certificates", // names below the directory of trust stores, as devices have them
	"PV_SYSTEM_RUNDIR":             "/pv",                 // what boards name in their pantavisor.config is the manual's
}

// moreSources are levels at which a key may be set beyond the manual's table.
var moreSources = map[string]string{
	"PV_LOG_PUSH":       "h", // ph_log.push, as the manual's example has it
	"PV_REMOUNT_POLICY": "f", // so that an image can bring it
}

// TestManualKeys walks the manual's tables key by key: default, levels, the new name in
// any case, and what a wrong value does.
func TestManualKeys(t *testing.T) {
	for _, row := range rows(t, "summary.txt") {
		name, def, levels := row[0], row[1], row[2]
		k, _, ok := lookup(strings.ToLower(name))
		if !ok {
			t.Errorf("%s is unknown", name)
			continue
		}
		if want, ok := otherDefault[name]; ok {
			def = want
		}
		if got := New().String(k); got != strings.TrimPrefix(def, "-") {
			t.Errorf("%s: default %q, want %q", name, got, def)
		}
		for letter, l := range sourceOf {
			switch {
			case letter == 'm':
				continue // the table has no column for it
			case letter == 'b' && strings.HasPrefix(name, "PH_"):
				l = PHCmdline
			}
			want := strings.ContainsRune(levels+moreSources[name], letter)
			c := New()
			_, changed := c.Set(l, name, anyValue(k))
			if changed != want {
				t.Errorf("%s at %v: set %v, want %v (%v)", name, l, changed, want, c.Notes())
			}
			if letter == 'b' && !table[k].levels.has(Env) {
				t.Errorf("%s cannot be set by the environment", name)
			}
			if changed && (c.From(k) != l || c.String(k) != anyValue(k)) {
				t.Errorf("%s at %v: %q from %v", name, l, c.String(k), c.From(k))
			}
		}
	}
}

// TestWrongValuesFallBack gives every key that has wrong values one.
func TestWrongValuesFallBack(t *testing.T) {
	for k := Key(0); k < keys; k++ {
		if table[k].kind == text && table[k].form == nil {
			continue
		}
		l := PVConf
		if !table[k].levels.has(l) {
			l = PHConf
		}
		c := New()
		if _, changed := c.Set(l, k.Name(), "no/sense"); changed || c.From(k) != Default {
			t.Errorf("%s took nonsense: %q", k.Name(), c.String(k))
		}
		want := k.Name() + `: "no/sense" is`
		if n := c.Notes(); len(n) != 1 || n[0].Level != l || !strings.HasPrefix(n[0].Text, want) || !strings.Contains(n[0].Text, "it stays ") {
			t.Errorf("%s: notes %v", k.Name(), n)
		}
	}
}

// TestNumbersHaveARange sets every number at the edges of its range and beside them.
func TestNumbersHaveARange(t *testing.T) {
	t.Parallel()
	for k := range keys {
		s := &table[k]
		if s.kind != number {
			if s.in != (span{}) {
				t.Errorf("%s is not a number and has a range", k.Name())
			}
			continue
		}
		if s.in.least >= s.in.most {
			t.Errorf("%s has the range %v", k.Name(), s.in)
		}
		for n, fits := range map[int]bool{s.in.least: true, s.in.most: true, s.in.least - 1: false, s.in.most + 1: false} {
			if v, err := s.parse(strconv.Itoa(n)); (err == nil) != fits || fits && v.num != n {
				t.Errorf("%s takes %d as %d: %v", k.Name(), n, v.num, err)
			}
		}
	}
	if notes := Check(PVConf, "PV_STORAGE_GC_RESERVED", "101"); len(notes) != 1 || !strings.Contains(notes[0], "from 0 to 100; it stays 5") {
		t.Errorf("101 percent: %q", notes)
	}
}

// newerLevels are names that the table of the new syntax takes the OEM level from.
var newerLevels = map[string]bool{"wdt.mode": true, "wdt.timeout": true, "wdt.enabled": true}

// TestDeprecatedNames sets every name of the deprecated syntax, as it stands in files,
// in any case, and behind the prefix of the kernel command line.
func TestDeprecatedNames(t *testing.T) {
	for _, row := range rows(t, "deprecated.txt") {
		name := row[0]
		for _, letter := range row[1] {
			if letter == 'o' && newerLevels[name] {
				continue
			}
			l := sourceOf[letter]
			for _, written := range []string{name, strings.ToUpper(name)} {
				c := New()
				k, changed := c.Set(l, written, fitting(name))
				if k == keys && replacement[name] == 0 && retired[name] != nil {
					continue // has no effect any more, and says so
				}
				if !changed || c.From(k) != l {
					t.Errorf("%s at %v sets nothing: %v", written, l, c.Notes())
				}
			}
		}
		prefix := map[byte]string{'f': "pv_", 'h': "ph_", 'o': "pv_"}[row[1][0]]
		c := New()
		c.LoadCmdline("quiet " + prefix + name + "=" + fitting(name))
		for _, n := range c.Notes() {
			if strings.Contains(n.Text, "unknown") || strings.Contains(n.Text, "may not") {
				t.Errorf("%s%s on the command line: %s", prefix, name, n.Text)
			}
		}
	}
}

// fitting is a value that is right for an old name and differs from the default.
func fitting(name string) string {
	if k, _, ok := lookup(name); ok {
		return anyValue(k)
	}
	return map[string]string{"wdt.enabled": "0", "log.stdout": "1"}[name]
}

func TestRetiredNames(t *testing.T) {
	c := New()
	for _, set := range []string{"wdt.enabled=0", "log.stdout=1", "storage.opts=noatime", "log.stdout=0", "log.stdout=maybe", "wdt.enabled=x"} {
		name, raw, _ := strings.Cut(set, "=")
		c.Set(PVConf, name, raw)
	}
	c.Set(PVCmdline, "WDT.enabled", "1")
	got := []string{c.Enum(WatchdogMode), c.String(LogServerOutputs)}
	if d := cmp.Diff([]string{"shutdown", "filetree,stdout"}, got); d != "" {
		t.Error(d)
	}
	var notes []string
	for _, n := range c.Notes() {
		notes = append(notes, n.Text)
	}
	want := []string{
		"wdt.enabled should be written PV_WDT_MODE",
		"log.stdout should be written PV_LOG_SERVER_OUTPUTS",
		"storage.opts has no effect any more",
		"log.stdout should be written PV_LOG_SERVER_OUTPUTS",
		"log.stdout should be written PV_LOG_SERVER_OUTPUTS",
		`log.stdout: "maybe" is neither 0 nor 1; PV_LOG_SERVER_OUTPUTS stays filetree,stdout`,
		"wdt.enabled should be written PV_WDT_MODE",
		`wdt.enabled: "x" is neither 0 nor 1; PV_WDT_MODE stays disabled`,
		"wdt.enabled should be written PV_WDT_MODE",
	}
	if d := cmp.Diff(want, notes); d != "" {
		t.Error(d)
	}
}

// TestManualExamples loads the examples of the manual as they stand there.
func TestManualExamples(t *testing.T) {
	c := New()
	for l, file := range map[Level]string{
		PVConf: "bootloader.type=normal-uboot\nstorage.device=LABEL=pvroot\nstorage.fstype=ext4\nstorage.opts=\nstorage.mntpoint=/storage\n" +
			"wdt.enabled=1\nwdt.timeout=30\nlog.level=5\nlog.buf_nitems=128\nsysctl.vm.watermark_boost_level=0\n",
		PHConf: "updater.interval=5\nupdater.network_timeout=60\nupdater.commit_delay=40\ncreds.host=api.pantahub.com\ncreds.port=443\n" +
			"creds.id=\ncreds.prn=\ncreds.secret=\n",
		OEM: "log.level=3\nstorage.gc.threshold=30\n",
	} {
		if err := c.LoadReader(l, strings.NewReader(file)); err != nil {
			t.Fatal(err)
		}
	}
	c.LoadCmdline("pv_log.logger=0 ph_log.push=0")
	got := []any{c.Enum(BootloaderType), c.String(StorageDevice), c.Int(WatchdogTimeout), c.Int(LogLevel), c.Int(UpdaterInterval),
		c.Int(UpdaterNetworkTimeout), c.Int(UpdaterCommitDelay), c.Int(StorageGCThreshold), c.Bool(LogLoggers), c.Bool(LogPush)}
	want := []any{"uboot", "LABEL=pvroot", 30, 3, 5, 60, 25, 30, false, false}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\nnotes: %v", d, c.Notes())
	}
}

var update = goflag.Bool("update", false, "write the table in docs/config.md anew")

// Markers around the table in the document.
const (
	tableBegin = "<!-- keys: begin -->\n"
	tableEnd   = "<!-- keys: end -->\n"
)

// TestDocument compares the table in docs/config.md with the one here; with -update it
// writes it.
func TestDocument(t *testing.T) {
	path := "../../docs/config.md"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s lacks its markers", path)
	}
	want := before + tableBegin + document() + tableEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, string(doc)); d != "" {
		t.Errorf("the table is not current; go test ./runtime/config -run TestDocument -update writes it:\n%s", d)
	}
}

// document is the table of all keys.
func document() string {
	var b strings.Builder
	b.WriteString("\n| key | value | default | where | old names | what it is |\n|---|---|---|---|---|---|\n")
	for k := range table {
		s := &table[k]
		def, old := s.def, "-"
		if def == "" {
			def = "-"
		}
		if len(s.aliases) > 0 {
			old = "`" + strings.Join(s.aliases, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", s.name, values(s), def, where(s.levels), old, strings.TrimSuffix(s.doc+"; "+Key(k).remark(), "; "))
	}
	return b.String() + "\n"
}

func values(s *spec) string {
	switch s.kind {
	case number:
		return s.in.String()
	case flag:
		return "0 or 1"
	case duration:
		return "duration"
	case choice:
		return strings.Join(s.choices, ", ")
	case outputs:
		return "list of outputs"
	default:
		if s.form != nil {
			return s.form.name
		}
		return "text"
	}
}

// where names the levels by letters.
func where(set levelSet) string {
	out := ""
	for _, l := range []struct {
		level  Level
		letter string
	}{{PVConf, "f"}, {PHConf, "h"}, {Policy, "p"}, {OEM, "o"}, {PVCmdline, "b"}, {PHCmdline, "b"}, {Env, "e"}, {Meta, "m"}} {
		if set.has(l.level) && !strings.HasSuffix(out, l.letter) {
			out += l.letter
		}
	}
	return out
}

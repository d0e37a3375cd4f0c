package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// TestTable walks the whole table: what a row says must be consistent.
func TestTable(t *testing.T) {
	seen := map[string]string{}
	for k := Key(0); k < keys; k++ {
		s := table[k]
		if s.name == "" || s.doc == "" {
			t.Fatalf("key %d has no row", k)
		}
		for _, n := range append([]string{s.name}, s.aliases...) {
			if other, dup := seen[strings.ToUpper(n)]; dup {
				t.Errorf("%s: name %q is also taken by %s", s.name, n, other)
			}
			seen[strings.ToUpper(n)] = s.name
		}
		if s.def == "" && s.kind != text {
			t.Errorf("%s: no default", s.name)
		}
		if _, err := s.parse(s.def); err != nil {
			t.Errorf("%s: default: %v", s.name, err)
		}
		if (s.kind == choice) != (len(s.choices) > 0) {
			t.Errorf("%s: choices do not fit its kind", s.name)
		}
		if strings.HasPrefix(s.name, "PH_") && s.levels.has(PVConf) {
			t.Errorf("%s: a Hub key may not stand in pantavisor.config", s.name)
		}
		if s.levels.has(Default) || s.levels == 0 {
			t.Errorf("%s: wrong levels", s.name)
		}
	}
	for wrong, k := range misspelt {
		if _, dup := seen[wrong]; dup || k >= keys {
			t.Errorf("misspelling %s is a name", wrong)
		}
	}
}

func TestHigherLevelWinsInAnyOrder(t *testing.T) {
	order := []Level{PVConf, Policy, OEM, PVCmdline, Env, Meta, Command}
	for first := range order {
		c := New()
		for i := range order {
			l := order[(first+i)%len(order)]
			c.Apply(l, StorageGCReserved, strconv.Itoa(int(l)))
		}
		for i := len(order) - 1; i >= 0; i-- {
			if got, from := c.Int(StorageGCReserved), c.From(StorageGCReserved); got != int(order[i]) || from != order[i] {
				t.Fatalf("start %d: winner %d from %v, want %v", first, got, from, order[i])
			}
			c.unset(order[i], StorageGCReserved)
		}
		if c.Int(StorageGCReserved) != 5 || c.From(StorageGCReserved) != Default {
			t.Fatalf("the default does not come back: %v", c.get(StorageGCReserved))
		}
		if n := c.Notes(); len(n) != 0 {
			t.Fatalf("notes: %v", n)
		}
	}
}

func TestLevelsOfEveryKey(t *testing.T) {
	for k := Key(0); k < keys; k++ {
		for l := Args; l < levels; l++ {
			c := New()
			c.Apply(l, k, anyValue(k))
			refused := len(c.Notes()) > 0
			if refused == table[k].levels.has(l) {
				t.Errorf("%s at %v: refused %v", k.Name(), l, refused)
			}
		}
	}
}

// anyValue is a value that is right for the key and differs from its default.
func anyValue(k Key) string {
	s := table[k]
	switch s.kind {
	case choice:
		for _, w := range s.choices {
			if w != s.def {
				return w
			}
		}
	case outputs:
		return "nullsink"
	case flag:
		return strconv.Itoa(1 - must(strconv.Atoi(s.def)))
	}
	switch {
	case s.kind == number && s.def != strconv.Itoa(s.in.most):
		return strconv.Itoa(min(s.in.most, 77))
	case s.kind == number:
		return strconv.Itoa(s.in.least)
	}
	switch s.form {
	case &timeFormat:
		return "strftime:%T"
	case &address4:
		return "10.9.8.7"
	case &netmask4:
		return "255.255.0.0"
	}
	return "77"
}

func must(n int, _ error) int { return n }

func TestFileNamesAndValues(t *testing.T) {
	c := New()
	err := c.LoadReader(PVConf, strings.NewReader(strings.Join([]string{
		"pv_storage_device=LABEL=pvroot  ", "Storage.FSType=ext4", "Storage.mountpoint=/wrong",
		"PV_LOG_LEVEL=9x", "PV_DEBUG_SHELL=oFF", "PV_POWER_WAKE_INTERVAL=2h", "PH_CREDS_HOST=evil",
		"PV_WDT_MODE=sometimes", "wdt.timeout=99999999999", "PV_LOG_SERVER_OUTPUTS=filetree,stdout",
		"", "# a remark", "nonsense", "PV_LIBTHHTTP_LOG_LEVEL=2",
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.String(StorageDevice), c.String(StorageFSType), c.String(StorageMntPoint), c.Int(LogLevel),
		c.Bool(DebugShell), c.Duration(PowerWakeInterval), c.String(CredsHost), c.Enum(WatchdogMode),
		c.Int(WatchdogTimeout), c.List(LogServerOutputs), c.Int(LogServerOutputs), c.Int(HTTPLogLevel)}
	want := []any{"LABEL=pvroot", "ext4", "", 0, false, 2 * time.Hour, "api.pantahub.com", "shutdown",
		15, []string{"filetree", "stdout"}, 12, 2}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var notes []string
	for _, n := range c.Notes() {
		notes = append(notes, n.Text)
	}
	wantNotes := []string{
		`unknown key "Storage.mountpoint"`,
		`PV_LOG_LEVEL: "9x" is not a whole number from 0 to 6; it stays 0`,
		`PH_CREDS_HOST may not be set here`,
		`PV_WDT_MODE: "sometimes" is none of disabled, shutdown, startup, always; it stays shutdown`,
		`PV_WDT_TIMEOUT: "99999999999" is not a whole number from 1 to 2147483647; it stays 15`,
		`line 13 has no '='`,
		`PV_LIBTHHTTP_LOG_LEVEL should be written PV_LIBTHTTP_LOG_LEVEL`,
	}
	if d := cmp.Diff(wantNotes, notes); d != "" {
		t.Error(d)
	}
}

func TestDurations(t *testing.T) {
	for raw, want := range map[string]int{"0": 0, "30": 30, "30s": 30, "5min": 300, "2h": 7200, "1d": 86400} {
		if v, err := parseDuration(raw); err != nil || v.num != want {
			t.Errorf("%q: %v %v", raw, v.num, err)
		}
	}
	for _, raw := range []string{"", "s", "-1", "1.5h", "5m", "99999d", "0x10", "1 h"} {
		if v, err := parseDuration(raw); err == nil {
			t.Errorf("%q is taken as %d", raw, v.num)
		}
	}
}

func TestMetaOverrideIsTakenBack(t *testing.T) {
	c := New()
	c.Set(PVConf, "log.level", "3")
	if k, changed := c.SetMeta("PV_LOG_LEVEL", "5"); k != LogLevel || !changed || c.Int(LogLevel) != 5 {
		t.Fatalf("override: %v %v %d", k, changed, c.Int(LogLevel))
	}
	if _, changed := c.SetMeta("log.level", "5"); changed {
		t.Error("the same value again counts as a change")
	}
	if _, changed := c.SetMeta("log.level", "loud"); changed || c.Int(LogLevel) != 5 {
		t.Error("a wrong value replaces a right one")
	}
	if _, changed := c.SetMeta("my.own.key", "x"); changed {
		t.Error("a key that is not a configuration changed it")
	}
	if _, changed := c.SetMeta("PV_STORAGE_DEVICE", "/dev/evil"); changed || c.String(StorageDevice) != "" {
		t.Error("metadata set a key that it may not set")
	}
	if k, changed := c.UnsetMeta("log.level"); k != LogLevel || !changed || c.Int(LogLevel) != 3 {
		t.Errorf("restore: %v %v %d", k, changed, c.Int(LogLevel))
	}
	var texts []string
	for _, n := range c.Notes() {
		texts = append(texts, n.Text)
	}
	if d := cmp.Diff([]string{`PV_LOG_LEVEL: "loud" is not a whole number from 0 to 6; it stays 5`, "PV_STORAGE_DEVICE may not be set here"}, texts); d != "" {
		t.Error(d)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	c := New()
	c.Set(PHConf, "creds.secret", "hunter2")
	c.Set(PHConf, "factory.autotok", "hunter2")
	if all := fmt.Sprint(c.Items()); strings.Contains(all, "hunter2") {
		t.Error("a secret is shown")
	}
	if c.String(CredsSecret) != "hunter2" {
		t.Error("the runtime itself does not see it")
	}
}

func TestNotesAreBounded(t *testing.T) {
	c := New()
	for i := range maxNotes + 10 {
		c.Set(PVConf, "unknown"+strconv.Itoa(i), "")
	}
	n := c.Notes()
	if len(n) != maxNotes+1 || n[maxNotes].Text != "10 more notes were dropped" {
		t.Errorf("%d notes, last %v", len(n), n[len(n)-1])
	}
	if len(c.Notes()) != 0 {
		t.Error("notes are given twice")
	}
}

func TestConcurrentUse(t *testing.T) {
	c := New()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 200 {
				c.SetMeta("PV_LOG_LEVEL", strconv.Itoa(n%6))
				c.UnsetMeta("PV_LOG_LEVEL")
				if i == 0 {
					c.Items()
				}
				_ = c.Int(LogLevel)
			}
		})
	}
	wg.Wait()
	if c.Int(LogLevel) != 0 {
		t.Errorf("level %d is left", c.Int(LogLevel))
	}
}

// recorded loads a body of the control socket from the recordings.
func recorded(t *testing.T, endpoint string) string {
	t.Helper()
	data := oracle.Read(t, "golden/ctrl/"+endpoint)
	var cases []struct {
		Body string `json:"response_body"`
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases[0].Body
}

// TestRecordedBodies gives every key the recorded value at the recorded level
// and wants the recorded bytes back.
func TestRecordedBodies(t *testing.T) {
	var items []struct{ Key, Value, Modified string }
	body2, body1 := recorded(t, "endpoint-config2.json"), recorded(t, "endpoint-config.json")
	if err := json.Unmarshal([]byte(body2), &items); err != nil {
		t.Fatal(err)
	}
	c := New()
	c.Apply(PVConf, SystemRunDir, "x")
	for _, it := range items {
		for l := Args; l < levels; l++ {
			if l.String() == it.Modified {
				c.Set(l, it.Key, strings.Replace(it.Value, "132", "filetree", 1))
			}
		}
	}
	if n := c.Notes(); len(n) != 0 {
		t.Errorf("notes: %v", n)
	}
	var old map[string]any
	if err := json.Unmarshal([]byte(body1), &old); err != nil {
		t.Fatal(err)
	}
	for i, it := range c.Items() {
		if it.Key == RemountPolicy || it.Key == SecurityDefaultRole || it.Key == UpdaterTrials {
			continue // not in the recording
		}
		text := it.Value
		if !it.Set {
			text = "(null)"
		}
		if got := []string{it.Name, text, it.From.String()}; !slices.Equal(got, []string{items[i].Key, items[i].Value, items[i].Modified}) {
			t.Errorf("line %d of /config2 is %q, want %q", i, got, items[i])
		}
		var number any
		switch {
		case it.Flag:
			number = it.Number != 0
		case it.Numeric:
			number = float64(it.Number)
		case it.Set:
			number = it.Value
		}
		if want, ok := old[it.Alias]; it.Alias != "" && (!ok || want != number) {
			t.Errorf("%s in /config is %v, want %v", it.Alias, number, want)
		}
	}
}

// TestForms takes what package logs takes, and nothing else.
func TestForms(t *testing.T) {
	for f, texts := range map[*form]map[string]bool{
		&size: {"0": true, "10": true, "10k": true, "5%": true, " 7MB ": true, "1TB": true, "0B": true,
			"-1": false, "10QB": false, "%": false, "KB": false, "1.5G": false, "99999999999999999999": false, "1%B": false},
		&timeFormat: {"golang:RFC822Z": true, "strftime:%T": true, "strftime:": true, "golang:Kitchen": false, "golang:": false, "ctime": false, ":": false},
	} {
		for text, want := range texts {
			if got := f.fits(text); got != want {
				t.Errorf("%q as %s: %v", text, f.name, got)
			}
		}
	}
	c := New()
	if c.Set(PVConf, "PV_LOG_DIR_MAXSIZE", ""); c.From(LogDirMaxSize) != PVConf || len(c.Notes()) != 0 {
		t.Error("an empty size is not unset")
	}
}

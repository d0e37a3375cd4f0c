package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/logs"
)

// logRecorder collects what the launcher logs.
type logRecorder struct{ lines []string }

// Log implements logs.Sink.
func (s *logRecorder) Log(_, _ string, _ logs.Level, text string) { s.lines = append(s.lines, text) }

func (s *logRecorder) has(what string) bool {
	return strings.Contains(strings.Join(s.lines, "\n"), what)
}

func (b *bench) listen() *logRecorder {
	s := &logRecorder{}
	b.l.Log = logs.Logger{Sink: s}
	return s
}

func (b *bench) file(name, text string, mode os.FileMode) string {
	b.t.Helper()
	p := filepath.Join(b.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), mode)); err != nil {
		b.t.Fatal(err)
	}
	return p
}

func TestSeccompHoldsInside(t *testing.T) {
	for name, lines := range map[string][]string{
		"late, as root":         nil,
		"late, without rights":  {"lxc.cap.keep = none"},
		"early, without rights": {"lxc.cap.keep = none", "lxc.no_new_privs = 0"},
		"early, as a user":      {"lxc.init.uid = 1000", "lxc.no_new_privs = 0"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			log := b.listen()
			profile := b.file("profile", "2\ndenylist\n[all]\nmkdir errno 28\nmkdirat errno 28\nnosuchcall\n", 0o644)
			r := b.probe([]string{"mkdir:/run/x", "list:/run"}, append(lines, "lxc.seccomp.profile = "+profile)...)
			if got := tried(r, "mkdir:/run/x"); !strings.Contains(got, "no space left") {
				t.Errorf("mkdir: %s", got)
			}
			if got := tried(r, "list:/run"); got != "" {
				t.Errorf("a call without a rule: %s", got)
			}
			if st := r["Status"].(map[string]any); st["Seccomp"] != "2" {
				t.Errorf("Seccomp %v, want 2", st["Seccomp"])
			}
			if !log.has("nosuchcall") {
				t.Errorf("the unknown call is not named: %q", log.lines)
			}
		})
	}
}

// TestFilterLeavesLimits: the way behind a filter must give the same limit of open
// files as the one without.
func TestFilterLeavesLimits(t *testing.T) {
	b := newBench(t)
	profile := b.file("profile", "2\ndenylist\n", 0o644)
	without := tried(b.probe([]string{"read:/proc/1/limits"}), "read:/proc/1/limits")
	with := tried(b.probe([]string{"read:/proc/1/limits"}, "lxc.seccomp.profile = "+profile), "read:/proc/1/limits")
	if with != without || !strings.Contains(with, "Max open files") {
		t.Errorf("without a filter\n%s\nwith\n%s", without, with)
	}
}

func TestBadSeccompProfileStopsStart(t *testing.T) {
	b := newBench(t)
	for text, want := range map[string]string{"2\nwhat\n": "neither denylist nor allowlist", "": "not complete"} {
		profile := b.file("profile", text, 0o644)
		_, err := b.l.Start(Start{Name: "bad", Config: b.config("lxc.seccomp.profile = " + profile)})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), profile) {
			t.Errorf("%v", err)
		}
	}
	if _, err := b.l.Start(Start{Name: "bad", Config: b.config("lxc.seccomp.profile = /no/such")}); err == nil {
		t.Error("a container without its profile started")
	}
}

func TestAppArmorIsToldAbout(t *testing.T) {
	b := newBench(t)
	if exists(appArmorEnabled) {
		t.Skip("this kernel has AppArmor; the profile of the test is not loaded")
	}
	log := b.listen()
	b.probe(nil, "lxc.apparmor.profile = lxc-container-default")
	if !log.has("the kernel has no AppArmor; lxc-container-default does not confine anything") {
		t.Errorf("said %q", log.lines)
	}
	log.lines = nil
	b.probe(nil, "lxc.apparmor.profile = unconfined")
	if len(log.lines) != 0 {
		t.Errorf("said %q about a container that is not confined", log.lines)
	}
}

// TestLabelIsWritten holds what goes to the kernel, for which the kernel need not
// have AppArmor.
func TestLabelIsWritten(t *testing.T) {
	for _, file := range []string{"apparmor/exec", "exec"} {
		dir := t.TempDir()
		p := filepath.Join(dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		s := &stage{plan: &plan{AppArmor: "mine", LabelDir: dir}}
		if err := errors.Join(s.openLabel(), s.setLabel()); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(p); string(got) != "exec mine" {
			t.Errorf("%s holds %q", file, got)
		}
	}
	s := &stage{plan: &plan{AppArmor: "mine", LabelDir: t.TempDir()}}
	if err := s.openLabel(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without the file: %v", err)
	}
}

func TestProcessParameters(t *testing.T) {
	b := newBench(t)
	r := b.probe([]string{"read:/proc/1/oom_score_adj"}, "lxc.proc.oom_score_adj = 321")
	if got := tried(r, "read:/proc/1/oom_score_adj"); got != "321\n" {
		t.Errorf("oom_score_adj is %q", got)
	}
	_, err := b.l.Start(Start{Name: "bad", Config: b.config("lxc.proc.nosuch = 1")})
	if err == nil || !strings.Contains(err.Error(), "setting process parameters") {
		t.Errorf("%v", err)
	}
	if _, _, err := Parse(strings.NewReader("lxc.proc.../../etc/passwd = 1\n")); err == nil {
		t.Error("a path went for a name")
	}
}

func TestTerminals(t *testing.T) {
	b := newBench(t)
	p := b.start("ttys", "lxc.tty.max = 2", "lxc.init.cmd = /sbin/init stay say:/dev/tty2,hello")
	firstLine(t, p)
	if len(p.ttys) != 2 {
		t.Fatalf("%d terminals are held", len(p.ttys))
	}
	var buf [16]byte
	n, err := unix.Read(p.ttys[1], buf[:])
	if err != nil || !strings.HasPrefix(string(buf[:n]), "hello") {
		t.Errorf("tty2 said %q, %v", buf[:n], err)
	}
	b.end(p)
	r := b.probe(nil, "lxc.tty.max = 0")
	for _, d := range r["Dev"].([]any) {
		if d == "tty1" {
			t.Error("there is a terminal that nobody asked for")
		}
	}
}

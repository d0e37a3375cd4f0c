package device

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// TestProfiles loads compiled profiles into a file that stands for the kernel's, and one
// in text form with a parser of the test.
func TestProfiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	compiled := string(compiledProfile) + "\x05\x00\x00\x00 and so on"
	for name, text := range map[string]string{"one": compiled, "text": "profile text { file, }\n", ".hidden": compiled,
		"parser": "#!/bin/sh\necho \"$@\" >>" + dir + "/parsed\n", "kernel": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "abi"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log []string
	p := &profiles{dir: dir, replace: filepath.Join(dir, "kernel"), parser: filepath.Join(dir, "parser"),
		log: logs.Logger{Sink: sinkFunc(func(s string) { log = append(log, strings.ReplaceAll(s, dir, "DIR")) })}}
	p.loadAll(t.Context(), []string{"one", "text", "../one", "none", ".."})
	if got, _ := os.ReadFile(p.replace); string(got) != compiled {
		t.Errorf("the kernel got %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "parsed")); string(got) != "-r "+dir+"/text\n" {
		t.Errorf("the parser was called with %q", got)
	}
	p.replace, p.parser = filepath.Join(dir, "no/kernel"), "no-such-parser-anywhere"
	p.loadAll(t.Context(), []string{"one", "text"})
	const wants = "PV_SYSTEM_APPARMOR_PROFILES wants names of files in DIR"
	want := []string{"INFO profile one is loaded", "INFO profile text is loaded", `WARN loading the profile "../one": ` + wants,
		`WARN loading the profile "none": open DIR/none: no such file or directory`, `WARN loading the profile "..": ` + wants,
		`WARN loading the profile "one": open DIR/no/kernel: no such file or directory: the kernel has no AppArmor, or PV_SYSTEM_MOUNT_SECURITYFS is 0`,
		`WARN loading the profile "text": exec: "no-such-parser-anywhere": executable file not found in $PATH: compile the profile when the image is made, with apparmor_parser -Q -K -o FILE`}
	if d := cmp.Diff(want, log); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
	log = nil
	p.parser = "true"
	p.loadAll(t.Context(), []string{"all"})
	if all := strings.Join(log, "\n"); strings.Contains(all, "hidden") || strings.Contains(all, "abi") || !strings.Contains(all, "profile text is loaded") {
		t.Errorf("all: %s", all)
	}
}

// TestCompiledProfile compiles a profile as the message to the user says.
func TestCompiledProfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/text", []byte("profile pv-test {\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(oracle.Program(t, "apparmor_parser"), "-Q", "-K", "-o", dir+"/compiled", dir+"/text")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	p := &profiles{dir: dir, replace: dir + "/kernel", parser: "no-such-parser-anywhere"}
	if err := os.WriteFile(p.replace, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.load(t.Context(), "compiled"); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(dir + "/compiled")
	if got, _ := os.ReadFile(p.replace); len(want) == 0 || string(got) != string(want) {
		t.Errorf("the kernel got %d bytes of %d", len(got), len(want))
	}
}

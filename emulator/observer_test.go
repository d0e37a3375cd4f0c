package emulator

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/targets"
)

// fakeConsole is a console on which a device prints text and ends.
func fakeConsole(t *testing.T, text string) *Console {
	t.Helper()
	ours, theirs := net.Pipe()
	c := newConsole(ours)
	t.Cleanup(c.close)
	go func() {
		_, _ = io.WriteString(theirs, text)
		_ = theirs.Close()
	}()
	return c
}

// late is a container that has not reached its goal in time.
const late = "container web did not reach STARTED: it is STARTING: time is over\r\n"

func TestConsoleObserver(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[engine] ready: all 2 containers reached their goals in 812 ms\r\n":                                                                                            "",
		"[engine] not ready: 1 of 2 containers reached their goals\r\n":                                                                                                 "the device says not ready: 1 of 2 containers",
		late + "[engine] not ready: 1 of 2 containers reached their goals\r\ncontainer web is now STARTED\r\n":                                                          "",
		late + "[engine] not ready: 1 of 2 containers reached their goals\r\ncontainer wet is now STARTED\r\n":                                                          `waiting for "container web is now STARTED" on the console in vain`,
		late + "container db did not reach READY: it is STOPPED: exited with code 1\n[engine] not ready: 0 of 2 containers reached\r\ncontainer web is now STARTED\r\n": "the device says not ready: 0 of 2 containers",
		"Kernel panic - not syncing\r\n": "reading the console (PV_LOG_SERVER_OUTPUTS needs stdout)",
		"[engine] ready: all":            "reading the console",
		"container web is now RECOVERING: exited with code 1\r\nready: all 2 containers\r\n": "container web: it is RECOVERING: exited with code 1",
	} {
		cs, err := consoleObserver{console: fakeConsole(t, text)}.wait(deadline(t, 20*time.Second), func([]api.Container, bool) {})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || cs != nil {
			t.Errorf("%q: %v, %v", text, cs, err)
		}
	}
}

func TestObserverFollowsTheChannel(t *testing.T) {
	t.Parallel()
	o := &Options{Containers: 3}
	if j := o.observer(&Machine{}); j.String() != byConsole {
		t.Errorf("a machine without a channel: %s", j)
	}
	m := &Machine{API: &API{}}
	if j, ok := o.observer(m).(apiObserver); !ok || j.m != m || j.least != 3 {
		t.Errorf("a machine with a channel: %v", o.observer(m))
	}
}

func TestMissedGoalsOfAConsole(t *testing.T) {
	t.Parallel()
	o := &Options{Target: "board", Containers: 1}
	err := o.verdict(t.Context(), Summary{JudgedBy: byConsole, LastLines: []string{"the end"}}, errors.New("silence"))
	if fault.Of(err) != fault.Goal || !strings.Contains(err.Error(), "the console does not say so: silence") || !strings.Contains(err.Error(), "the end") {
		t.Errorf("%v", err)
	}
}

// TestMachineThatCannotBeAsked has no power button and no channel: a run judges it by its
// console and cuts the power.
func TestMachineThatCannotBeAsked(t *testing.T) {
	e := targets.Emulator{System: "aarch64", Machine: "raspi3b", Memory: 1024, Channel: "none"}
	if missing := Missing(e); len(missing) > 0 {
		t.Skipf("missing on this host: %v", missing)
	}
	var out, messages strings.Builder
	err := Run(t.Context(), Options{
		Target: "pi", Emulator: e, Image: countingDisk(t), Kernel: countingDisk(t), Accelerator: "tcg", JSON: true,
		Stdout: &out, Stderr: &messages, Stall: time.Second, PowerOff: time.Second,
	})
	if fault.Of(err) != fault.Goal || !strings.Contains(err.Error(), "the console does not say so: nothing changed for 1s") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	if !strings.Contains(out.String(), `"judged_by": "console"`) || !strings.Contains(out.String(), `"clean_off": false`) {
		t.Errorf("summary:\n%s", out.String())
	}
	if !strings.Contains(messages.String(), "cutting the power: the machine raspi3b has neither a power button nor a channel") {
		t.Errorf("messages:\n%s", messages.String())
	}
}

func TestCardsArePowersOfTwo(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]int64{0: 0, 1: 1, 3: 4, 4: 4, 1<<20 + 1: 2 << 20} {
		path := filepath.Join(t.TempDir(), "card")
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := growToPowerOfTwo(path); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.Size() != want {
			t.Errorf("%d bytes become %d, want %d (%v)", size, st.Size(), want, err)
		}
	}
}

func TestMissingFirmware(t *testing.T) {
	if _, _, err := findUEFI("mipsel"); fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), "emulator.firmware") {
		t.Errorf("no firmware for it: %v", err)
	}
	uefi["x"], uefiPackages["x"] = [][2]string{{"/nonexistent/code", "/nonexistent/vars"}}, "qemu-efi-x"
	defer func() { delete(uefi, "x"); delete(uefiPackages, "x") }()
	if _, _, err := findUEFI("x"); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "qemu-efi-x") {
		t.Errorf("firmware that is not installed: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	got := Missing(targets.Emulator{System: "x", Firmware: "uefi", BIOS: "/nonexistent/bios"})
	if d := cmp.Diff([]string{"qemu-system-x", "UEFI firmware for x", "/nonexistent/bios"}, got); d != "" {
		t.Error(d)
	}
}

func TestKVMIsForTheHostsOwnCPU(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	keepVerdict(bootID(), "kvm") // an observer would find it
	for system := range uefi {
		e := targets.Emulator{System: system, Machine: "virt", Firmware: "uefi"}
		if !sameArch(e) && Accelerator(t.Context(), e) != "tcg" {
			t.Errorf("%s runs on this host's CPU", system)
		}
	}
	if Accelerator(t.Context(), targets.Emulator{System: hosts["amd64"], Machine: "q35"}) != "tcg" {
		t.Error("acceleration without a firmware to try it with")
	}
}

func TestKeysAreReadUntilStop(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	typed := make(chan []byte)
	stop, err := readKeys(r, typed)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "ab")
	if got := <-typed; string(got) != "ab" {
		t.Errorf("typed %q", got)
	}
	stop()
	_, _ = io.WriteString(w, "left for the shell")
	if _, ok := <-typed; ok {
		t.Error("keys are read after the stop")
	}
	rest := make([]byte, 18)
	if _, err := io.ReadFull(r, rest); err != nil || string(rest) != "left for the shell" {
		t.Errorf("%q, %v", rest, err)
	}
	_ = w.Close()
}

func TestTerminalEndsWithItsInput(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	typed := make(chan []byte)
	stop, err := readKeys(r, typed)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_ = w.Close()
	if got, ok := <-typed; ok {
		t.Errorf("an end of input types %q", got)
	}
}

// TestTerminalActs types on a machine: text goes to the device, Ctrl-] and a key is for us.
func TestTerminalActs(t *testing.T) {
	ctx := deadline(t, time.Minute)
	m := start(ctx, t, Config{Emulator: pc(t, ""), Image: countingDisk(t)})
	expect(ctx, t, m, "boot 1\n")
	typed := make(chan []byte)
	var out strings.Builder
	ended := make(chan error, 1)
	o := &Options{Stderr: io.Discard, PowerOff: time.Minute}
	go func() { ended <- o.serveTerminal(ctx, m, typed, &out) }()
	typed <- []byte("hello")
	expect(ctx, t, m, "hello")
	typed <- []byte("\x1dr")
	expect(ctx, t, m, "boot 2\n")
	typed <- []byte("\x1d?")
	typed <- []byte("\x1dq") // a boot sector does not hear the power button
	typed <- []byte("still")
	expect(ctx, t, m, "still")
	typed <- []byte("\x1dx")
	if err := <-ended; err != nil {
		t.Errorf("a power cut that was asked for: %v", err)
	}
	if !strings.Contains(out.String(), terminalHelp) || !strings.Contains(out.String(), "[power cut]") {
		t.Errorf("on the terminal: %q", out.String())
	}
	select {
	case <-m.Done():
	default:
		t.Error("the machine still runs")
	}
}

// TestTerminalIsCancelled cuts the power at once, also while the device powers off.
func TestTerminalIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t, time.Minute))
	m := start(ctx, t, Config{Emulator: pc(t, ""), Image: countingDisk(t)})
	expect(ctx, t, m, "boot 1\n")
	typed := make(chan []byte)
	ended := make(chan error, 1)
	o := &Options{Stderr: io.Discard, PowerOff: time.Hour}
	go func() { ended <- o.serveTerminal(ctx, m, typed, io.Discard) }()
	typed <- []byte("\x1dq")
	typed <- []byte("x")
	cancel()
	if err := <-ended; fault.Of(err) != fault.Cancelled {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	<-m.Done()
}

// TestQMPOverASocketPair talks to a monitor on the kind of socket that QEMU inherits.
func TestQMPOverASocketPair(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ said, want string }{
		"nothing":     {"", "reading the monitor's greeting"},
		"another":     {`{"return":{}}` + "\n", "did not greet"},
		"no answer":   {`{"QMP":{}}` + "\n", "telling QEMU qmp_capabilities"},
		"not JSON":    {`{"QMP":{}}` + "\n!", "telling QEMU qmp_capabilities"},
		"refusal":     {`{"QMP":{}}` + "\n" + `{"error":{"desc":"busy"}}`, "it answers busy"},
		"agreement":   {`{"QMP":{}}` + "\n" + `{"event":"RESUME"}{"return":{}}`, ""},
		"long events": {`{"QMP":{}}` + "\n" + `{"event":"` + strings.Repeat("x", 1<<16) + `"}{"return":{}}`, ""},
	} {
		ours, theirs, err := socketPair("monitor")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = theirs.WriteString(c.said)
			_ = unixShutdown(theirs)
			_, _ = io.Copy(io.Discard, theirs)
			_ = theirs.Close()
		}()
		q, err := openQMP(deadline(t, 20*time.Second), ours)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		q.close()
		_ = ours.Close()
	}
	ours, theirs, err := socketPair("monitor")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openQMP(ctx, ours); err == nil {
		t.Error("a monitor that says nothing is waited for after the end")
	}
}

// unixShutdown ends what one end of a socket pair says; it still hears.
func unixShutdown(f *os.File) error { return unix.Shutdown(int(f.Fd()), unix.SHUT_WR) }

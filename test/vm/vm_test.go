package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

const target = "x64-uefi"

// patience is how long one expectation may take: emulation on a busy machine.
const patience = 5 * time.Minute

var maker = sync.OnceValues(func() (*workspace.Maker, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return workspace.OpenMaker(context.Background(), root, target, nil)
})

func open(t *testing.T) *workspace.Maker {
	t.Helper()
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	w, err := maker()
	if err != nil {
		t.Fatal(err)
	}
	oracle.Emulator(t, emulator.Missing(w.Target.Emulators[0]))
	return w
}

// image makes the image of the target's own containers.
func image(t *testing.T, w *workspace.Maker) string {
	t.Helper()
	file, err := w.Image(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func boot(t *testing.T, w *workspace.Maker, image, dir string) *Device {
	t.Helper()
	d, err := Boot(within(t), w.Target.Emulators[0], image, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last lines of the console:\n%s", strings.Join(d.Console.Tail(60), "\n"))
		}
		d.Close()
	})
	return d
}

// goals waits until the starter containers have reached their goals.
func goals(t *testing.T, d *Device) {
	t.Helper()
	cs, err := d.WaitContainers(within(t), emulator.AllReached(2))
	if err != nil {
		t.Fatalf("%v; last answer %+v", err, cs)
	}
}

func run(t *testing.T, d *Device, command string) string {
	t.Helper()
	out, err := d.Run(within(t), command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inSDK runs a command in the container sdk.
func inSDK(t *testing.T, d *Device, command string) string {
	t.Helper()
	return run(t, d, "pventer -c sdk "+command)
}

func TestDevice(t *testing.T) {
	w := open(t)
	dir := t.TempDir()
	d := boot(t, w, personalised(t, w), dir)
	goals(t, d)
	t.Run("personal settings", func(t *testing.T) { checkPersonal(t, d) })
	t.Run("groups", func(t *testing.T) { checkGroups(t, d) })
	t.Run("pvcontrol in sdk", func(t *testing.T) { checkList(t, d) })
	t.Run("loopback", func(t *testing.T) { checkLoopback(t, d) })
	t.Run("bill of materials", func(t *testing.T) { checkSBOM(t, d) })
	t.Run("addresses in device metadata", func(t *testing.T) { checkAddresses(t, d) })
	d = cutPower(t, w, d, dir)
	t.Run("volumes over a reboot", func(t *testing.T) { checkVolumes(t, d) })
	t.Run("usage", func(t *testing.T) { checkUsage(t, d) })
	t.Run("killed container", func(t *testing.T) { checkKilled(t, d) })
	t.Run("power-off", func(t *testing.T) { checkPowerOff(t, d) })
}

// Settings of the device, that no other has.
const (
	personalName   = "sensor-7"
	personalServer = "192.0.2.53" // a name server that nobody asks: QEMU's own comes first
)

// personalised makes a copy of the image with settings of this device.
func personalised(t *testing.T, w *workspace.Maker) string {
	t.Helper()
	from := image(t, w)
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	o := workspace.PersonalizeOptions{Hostname: personalName, DNS: "10.0.2.3," + personalServer, Hub: "hub.example", Meta: []string{"sdk/colour=blue"}, To: to}
	began := time.Now()
	space := &workspace.Workspace{Root: w.Root, Options: &options.Options{}, Stdout: io.Discard, Stderr: io.Discard}
	if err := space.Personalize(t.Context(), from, o); err != nil {
		t.Fatal(err)
	}
	t.Logf("personalising a copy took %v", time.Since(began))
	return to
}

// checkPersonal checks that the settings have their effect: on the name of the device, on what
// the container network does, and on what others see.
func checkPersonal(t *testing.T, d *Device) {
	for command, want := range map[string]string{
		"cat /proc/sys/kernel/hostname":                       personalName,
		"cat /run/pantavisor/pv/user-meta.network/hostname":   personalName,
		"pventer -c sdk cat /pantavisor/user-meta/sdk/colour": "blue",
		"pventer -c sdk pvcontrol usrmeta ls":                 "pvnet_dns",
		"pventer -c sdk pvcontrol config ls":                  "hub.example",
	} {
		if out := run(t, d, command); !strings.Contains(out, want) {
			t.Errorf("%s: no %s in %q", command, want, out)
		}
	}
	ctx := within(t)
	for out := ""; !strings.Contains(out, "nameserver "+personalServer); {
		select {
		case <-ctx.Done():
			t.Fatalf("the name servers are %q", out)
		case <-time.After(500 * time.Millisecond): // the file comes with the lease
		}
		out, _ = d.Run(ctx, "cat /etc/resolv.conf") // not there before
	}
}

func checkGroups(t *testing.T, d *Device) {
	cs, err := d.API.Containers(within(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range cs {
		if c.Group != nil {
			got[c.Name] = *c.Group + " " + strings.Join(c.Roles, ",")
		}
	}
	if diff := cmp.Diff(map[string]string{"network": "root mgmt", "sdk": "platform mgmt"}, got); diff != "" {
		t.Error(diff)
	}
}

func checkList(t *testing.T, d *Device) {
	out := inSDK(t, d, "pvcontrol ls")
	for _, name := range []string{"network", "sdk"} {
		if !strings.Contains(out, name) {
			t.Errorf("no %s in:\n%s", name, out)
		}
	}
	if _, err := d.Run(within(t), "pventer -c absent true"); !errors.As(err, new(*ExitError)) {
		t.Errorf("entering a container that is not there: %v", err)
	}
}

// checkSBOM asks the device what it is made of: each object of its revision, and what packages they
// were made of.
func checkSBOM(t *testing.T, d *Device) {
	var text, doc json.RawMessage
	if err := errors.Join(d.API.Get(within(t), "/sbom", &text), d.API.Get(within(t), "/steps/current", &doc)); err != nil {
		t.Fatal(err)
	}
	materials, err := spdx2.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	st, err := state.Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]bool{}
	kernel, own := false, false
	for _, p := range materials.Packages {
		sums[p.SHA256] = true
		kernel = kernel || strings.HasPrefix(p.Name, "linux-image") && p.Version != ""
		own = own || p.Name == "pantavisor"
	}
	for _, f := range materials.Files {
		sums[f.SHA256] = true
	}
	for _, o := range st.Objects() {
		if !sums[o.Sum] {
			t.Errorf("%s is not in it", o.Path)
		}
	}
	if !kernel || !own || strings.Contains(materials.Comment, "left out") {
		t.Errorf("it has the kernel: %v, the runtime: %v; %s", kernel, own, materials.Comment)
	}
	// Lines of the console may come between.
	if out := inSDK(t, d, "sh -c 'echo documents: $(pvcontrol sbom sdk | grep -c SPDX-2.3)'"); !strings.Contains(out, "documents: 1") {
		t.Errorf("pvcontrol sbom sdk: %s", out)
	}
	t.Logf("%d bytes: %d packages, %d files, %d relations", len(text), len(materials.Packages), len(materials.Files), len(materials.Relations))
}

// checkLoopback wants lo up, which is the containers' 127.0.0.1.
func checkLoopback(t *testing.T, d *Device) {
	const up = "0x9" // IFF_UP | IFF_LOOPBACK
	if got := strings.TrimSpace(inSDK(t, d, "cat /sys/class/net/lo/flags")); got != up {
		t.Errorf("the flags of lo are %s, want %s", got, up)
	}
}

// checkAddresses asks until the lease of QEMU's user network is published.
func checkAddresses(t *testing.T, d *Device) {
	ctx := within(t)
	last := ""
	for ctx.Err() == nil {
		var meta map[string]json.RawMessage
		if err := d.API.Get(ctx, "/device-meta", &meta); err != nil {
			t.Fatal(err)
		}
		if last = string(meta["network.interfaces"]); strings.Contains(last, "10.0.2.15/24") {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond): // the API has no event for metadata
		}
	}
	t.Errorf("network.interfaces is %s", last)
}

func checkVolumes(t *testing.T, d *Device) {
	inSDK(t, d, "sh -c 'echo kept on > /var/lib/sdk/file; echo lost > /var/cache/sdk/file; echo lost > /srv/file; sync'")
	if err := d.Reboot(within(t)); err != nil {
		t.Fatal(err)
	}
	goals(t, d)
	if out := inSDK(t, d, "cat /var/lib/sdk/file"); out != "kept on" {
		t.Errorf("file on the permanent volume: %q", out)
	}
	for _, gone := range []string{"/var/cache/sdk/file", "/srv/file"} {
		if _, err := d.Run(within(t), "pventer -c sdk cat "+gone); !errors.As(err, new(*ExitError)) {
			t.Errorf("%s after a reboot: %v", gone, err)
		}
	}
}

func checkUsage(t *testing.T, d *Device) {
	u, err := d.Measure(within(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("PSS %d KiB of %v; CPU %.2f s, of the runtime %.2f s", u.PSS, u.Processes, u.CPU, u.RuntimeCPU)
	if u.PSS < 500 || u.CPU <= 0 || u.RuntimeCPU > u.CPU {
		t.Errorf("implausible: %+v", u)
	}
}

func checkKilled(t *testing.T, d *Device) {
	run(t, d, "kill -9 $(pidof sdk-init)")
	cs, err := d.WaitContainers(within(t), func(cs []api.Container) bool { return status(cs, "sdk") == "STOPPED" })
	if err != nil {
		t.Fatalf("%v; last answer %+v", err, cs)
	}
	if status(cs, "network") != "STARTED" {
		t.Errorf("network is %s", status(cs, "network"))
	}
	waitLog(t, d, "why sdk ended", func(line string) bool {
		return strings.Contains(line, "container sdk") && (strings.Contains(line, "kill") || strings.Contains(line, "signal 9"))
	})
}

// waitLog waits for a line of the runtime's log: the log is written beside what the
// API answers, not before.
func waitLog(t *testing.T, d *Device, what string, is func(line string) bool) {
	t.Helper()
	ctx := within(t)
	for {
		out := run(t, d, "cat /storage/logs/0/pantavisor/pantavisor.log")
		if slices.ContainsFunc(strings.Split(out, "\n"), is) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the log does not say %s:\n%s", what, out)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func status(cs []api.Container, name string) string {
	i := slices.IndexFunc(cs, func(c api.Container) bool { return c.Name == name })
	if i < 0 {
		return "absent"
	}
	return cs[i].Status
}

func checkPowerOff(t *testing.T, d *Device) {
	if err := d.leaveShell(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.Shutdown(within(t), time.Minute); err != nil {
		t.Fatal(err)
	}
	checkStorage(t, d.Disk(), "clean")
}

// checkStorage wants the storage partition of a disk to be "clean": unmounted and
// without errors; or "cut off": its journal is to be replayed.
func checkStorage(t *testing.T, disk, want string) {
	t.Helper()
	oracle.Need(t, "sgdisk", "e2fsck", "dumpe2fs")
	info, err := exec.Command("sgdisk", "-i", "2", disk).CombinedOutput()
	first := regexp.MustCompile(`First sector: (\d+)`).FindSubmatch(info)
	if err != nil || first == nil {
		t.Fatalf("finding the storage: %v\n%s", err, info)
	}
	partition := filepath.Join(t.TempDir(), "pvroot")
	if out, err := exec.Command("dd", "if="+disk, "of="+partition, "bs=512", "conv=sparse", "skip="+string(first[1])).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want == "clean" {
		if out, err := exec.Command("e2fsck", "-fn", partition).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v\n%s", err, out)
		}
	}
	out, err := exec.Command("dumpe2fs", "-h", partition).CombinedOutput()
	if unmounted := !strings.Contains(string(out), "needs_recovery"); err != nil || unmounted != (want == "clean") {
		t.Errorf("storage is %s? %v: %v\n%s", want, unmounted, err, out)
	}
}

// cutPower cuts the power while containers run: the next boot reaches the goals again. It is
// also the twin of the clean power-off: a storage that was cut off is not clean.
func cutPower(t *testing.T, w *workspace.Maker, d *Device, dir string) *Device {
	t.Helper()
	inSDK(t, d, "sh -c 'echo kept > /var/lib/sdk/file; sync'")
	d.Close()
	checkStorage(t, d.Disk(), "cut off")
	d = boot(t, w, "", dir)
	goals(t, d)
	if out := inSDK(t, d, "cat /var/lib/sdk/file"); out != "kept" {
		t.Errorf("file after a power cut: %q", out)
	}
	return d
}

// TestContainerThatCannotStart is the twin of TestDevice's goals: the same wait
// fails and says which container and why.
func TestContainerThatCannotStart(t *testing.T) {
	w := open(t)
	directory, reference := t.TempDir(), filepath.Join(t.TempDir(), ".pvr")
	definition := "description: cannot start\ngroup: platform\nentrypoint: [/init]\n"
	must(t, os.MkdirAll(filepath.Join(directory, "broken/files"), 0o755))
	must(t, os.WriteFile(filepath.Join(directory, "broken/files/init"), []byte("#!/not/there\n"), 0o755))
	must(t, os.WriteFile(filepath.Join(directory, "broken/container.yaml"), []byte(definition), 0o644))
	must(t, w.Reference(t.Context(), directory, []string{"broken"}, reference))
	file, err := w.Image(t.Context(), reference)
	must(t, err)
	var said strings.Builder
	err = emulator.Run(within(t), emulator.Options{
		Target: target, Emulator: w.Target.Emulators[0], Image: file, Accelerator: "tcg", JSON: true,
		Stdout: &said, Stall: 40 * time.Second, Limit: patience,
	})
	if fault.Of(err) != fault.Goal || !strings.Contains(err.Error(), "broken is ") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	var s emulator.Summary
	must(t, json.Unmarshal([]byte(said.String()), &s))
	if s.Reached || len(s.Containers) != 1 || s.Containers[0].StatusReason == "" {
		t.Errorf("summary: %+v", s)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

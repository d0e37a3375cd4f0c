package appengine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/vm"
)

// The attacks of the group "attack" run in an App Engine of this machine with all suites.
// Here they run on machines with each kind of control groups and with AppArmor.

// legacyGroups mounts control groups of version 1, each controller as a hierarchy of its
// own; those that the kernel has as version 2 only are left out.
const legacyGroups = `
mount -t tmpfs none $cg
for c in cpu cpuacct cpuset memory devices freezer blkio pids; do
	mkdir $cg/$c
	mount -t cgroup -o $c none $cg/$c 2>/dev/null || rmdir $cg/$c
done
service=$cg/pids
`

// hybridGroups are those and the tree of version 2 beside them, as on a hybrid host.
const hybridGroups = legacyGroups + `
mkdir $cg/unified
mount -t cgroup2 none $cg/unified
mkdir $cg/unified/pv.service
service=$cg/unified/pv.service
`

// attacked runs the scripts of the group's tests in the App Engine of /files and prints
// their results; then it makes the same attempts outside of a container, in other control
// groups than process 1 and with another limit.
const attacked = `
mount -t securityfs none /sys/kernel/security
[ ! -e /files/profile ] || cat /files/profile > /sys/kernel/security/apparmor/.replace
tar -xzf /appengine.tgz -C /tmp
/tmp/appengine/install /opt/pantavisor >/dev/null
rm -rf /opt/pantavisor/storage
cp -a /files/storage /files/etc /opt/pantavisor
export PVTEST_PREFIX=/opt/pantavisor PVTEST_CONTROL=sdk PVTEST_TMP=/tmp
sh -c 'echo $$ > '$service'/cgroup.procs; exec pantavisor -i' > /tmp/log 2>&1 &
i=0
until pvcontrol devmeta ls 2>/dev/null | grep -q '"pantavisor.status":"READY"' || [ $i -gt 300 ]; do i=$((i + 1)); sleep 0.1; done
for t in $(cat /files/tests); do
	echo "AT $(cut -d ' ' -f 1 /proc/uptime)"
	echo "BEGIN $t"
	cd /files/attack/data/$t && sh resources/test 2>&1
	echo "FINISH $t"
done
[ $i -lt 300 ] || cat /tmp/log
echo "AT $(cut -d ' ' -f 1 /proc/uptime)"
echo "BEGIN outside"
mkdir -p $service/other /var/keep /srv
export ATTACK_SOCKET=/opt/pantavisor/run/pv/pv-ctrl
sh -c 'echo $$ > '$service'/other/cgroup.procs; ulimit -n 300; exec /files/outside run any role confined limit' 2>&1
echo "FINISH outside"
echo "THE END"
while :; do sleep 60; done
`

// section returns what a machine has printed for a test.
func section(t *testing.T, screen, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(screen, "BEGIN "+name+"\n")
	text, _, end := strings.Cut(rest, "FINISH "+name+"\n")
	if !ok || !end {
		t.Fatalf("there is no result of %s:\n%s", name, screen)
	}
	return text
}

// attackTests returns the tests of the group with the names.
func attackTests(t *testing.T, r *Runner, names ...string) (tests []*Test) {
	t.Helper()
	all, err := findTests(layers.New(layers.Layer{Label: layers.Workspace, Dir: r.Builder.(*workspace.Maker).Root}))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range all {
		if test.Group == "attack" && slices.Contains(names, test.Name) {
			tests = append(tests, test)
		}
	}
	if len(tests) != len(names) {
		t.Fatalf("%d tests, want %v", len(tests), names)
	}
	return tests
}

// attackFiles makes the directory /files of a machine: an installation with the containers
// of all tests, their scripts, and the program of the attacks for the machine itself.
func attackFiles(t *testing.T, r *Runner, tests []*Test) string {
	t.Helper()
	work, files := t.TempDir(), t.TempDir()
	joined, names := *tests[0], ""
	spec := *joined.Spec
	joined.Spec, spec.Setup.Containers.Tarballs = &spec, nil
	for _, test := range tests {
		for _, c := range test.Spec.Setup.Containers.Tarballs {
			if !slices.Contains(spec.Setup.Containers.Tarballs, c) {
				spec.Setup.Containers.Tarballs = append(spec.Setup.Containers.Tarballs, c)
			}
		}
		names += test.Name + "\n"
	}
	prefix, err := Install(t.Context(), r.Builder, &joined, work)
	if err != nil {
		t.Fatal(err)
	}
	root := r.Builder.(*workspace.Maker).Root
	for _, words := range [][]string{
		{"cp", "-a", filepath.Join(prefix, "storage"), filepath.Join(prefix, "etc"), files},
		{"cp", "-a", filepath.Join(root, Suites, "attack"), files},
		{"env", "CGO_ENABLED=0", "go", "build", "-C", root, "-o", filepath.Join(files, "outside"), "./test/attack"},
	} {
		if out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(files, "tests"), []byte(names), 0o644); err != nil {
		t.Fatal(err)
	}
	return files
}

// appArmorProfile allows everything but one file.
const appArmorProfile = `abi <abi/3.0>,
profile attack flags=(attach_disconnected) {
  capability, network, mount, umount, pivot_root, signal, ptrace, unix, file,
  deny /srv/denied rw,
}
`

// needMachines skips a test that takes minutes unless it is asked for.
func needMachines(t *testing.T) {
	t.Helper()
	if os.Getenv("PV_TEST_MACHINES") == "" {
		t.Skip("boots virtual machines for minutes; mage attack does")
	}
}

// TestHostileContainersOnDevice wants the same of a device.
func TestHostileContainersOnDevice(t *testing.T) {
	needMachines(t)
	r, _ := runner(t)
	test := attackTests(t, r, "00-containers")[0]
	root := r.Builder.(*workspace.Maker).Root
	maker, err := workspace.OpenMaker(t.Context(), root, "x64-uefi", nil)
	if err != nil {
		t.Fatal(err)
	}
	oracle.Emulator(t, emulator.Missing(maker.Target.Emulators[0]))
	var dirs []string
	for _, name := range test.Spec.Setup.Containers.Tarballs {
		dirs = append(dirs, filepath.Join(test.Dir, name))
	}
	ctx, cancel := context.WithTimeout(t.Context(), machineTime)
	defer cancel()
	image, err := maker.Image(ctx, reference(t, maker, dirs...))
	if err != nil {
		t.Fatal(err)
	}
	d, err := vm.Boot(ctx, maker.Target.Emulators[0], image, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if cs, err := d.WaitContainers(ctx, emulator.AllReached(len(dirs))); err != nil {
		t.Fatalf("%v; last answer %+v\n%s", err, cs, strings.Join(d.Console.Tail(40), "\n"))
	}
	got := attackDevice(ctx, t, d, test)
	want, err := os.ReadFile(filepath.Join(test.Dir, resultFile))
	if diff := cmp.Diff(strings.TrimSpace(string(want)), got); diff != "" || err != nil {
		t.Errorf("%v (-recorded +the device's)\n%s", err, diff)
	}
}

// attackDevice runs a test's script in the debug shell of a device.
func attackDevice(ctx context.Context, t *testing.T, d *vm.Device, test *Test) string {
	t.Helper()
	const dir = "/tmp/attack/data/test"
	shell := func(command string) string {
		out, err := d.Run(ctx, command)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	shell("mkdir -p " + dir + " /tmp/attack/common")
	for from, to := range map[string]string{"../../common/attack": "/tmp/attack/common/attack", test.Spec.TestScript: dir + "/script"} {
		text, err := os.ReadFile(filepath.Join(test.Dir, from))
		if err != nil {
			t.Fatal(err)
		}
		shell("cat > " + to + " <<'END OF FILE'\n" + string(text) + "END OF FILE\n:")
	}
	shell("cd " + dir + "; PVTEST_PREFIX= PVTEST_TMP=/tmp sh script > /tmp/result 2>&1; :")
	lines := strings.Split(shell("cat /tmp/result"), "\n")
	// The runtime's own log goes to the console, too.
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "[pantavisor] ") }), "\n")
}

// TestHostileContainers wants the same results of machines with each kind of control groups.
func TestHostileContainers(t *testing.T) {
	needMachines(t)
	for name, c := range map[string]struct {
		groups   string
		appArmor bool
		tests    []string
	}{
		"v1":      {legacyGroups, false, []string{"00-containers", "01-limits"}},
		"hybrid":  {hybridGroups, false, []string{"00-containers", "01-limits"}},
		"unified": {unifiedGroups, true, []string{"00-containers", "01-limits", "02-label"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := runner(t)
			tests := attackTests(t, r, c.tests...)
			m := machine{init: machineHead + c.groups + attacked, files: attackFiles(t, r, tests)}
			if c.appArmor {
				m.append = "apparmor=1 security=apparmor"
				compileProfile(t, filepath.Join(m.files, "profile"))
			}
			screen := m.run(t, r)
			for _, test := range tests {
				want, err := os.ReadFile(filepath.Join(test.Dir, resultFile))
				if err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(string(want), section(t, screen, test.Name)); diff != "" {
					t.Errorf("%s (-recorded +the machine's)\n%s", test.Name, diff)
				}
			}
			checkOutside(t, section(t, screen, "outside"))
		})
	}
}

// checkOutside wants the attempts to succeed where nothing denies them: otherwise they would
// show nothing inside.
func checkOutside(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "BROKEN ") {
			t.Errorf("outside of a container: %s", line)
		}
	}
	if strings.Count(text, "BROKEN") < 30 {
		t.Errorf("few attempts were made outside of a container:\n%s", text)
	}
}

func compileProfile(t *testing.T, to string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), oracle.Program(t, "apparmor_parser"), "-Q", "-K", "-S")
	cmd.Stdin = strings.NewReader(appArmorProfile)
	out, err := cmd.Output()
	if err == nil {
		err = os.WriteFile(to, out, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

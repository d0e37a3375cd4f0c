package appengine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/targets"
)

// machineHead begins process 1 of a machine whose root is that of the container sdk.
const machineHead = `#!/bin/sh
export PATH=/opt/pantavisor:/bin:/sbin:/usr/bin:/usr/sbin
if [ "$1" != moved ]; then
	mount -t tmpfs -o mode=755 none /new
	for d in bin lib sbin usr etc init appengine.tgz files; do cp -a /$d /new; done
	mkdir -p /new/proc /new/sys /new/dev /new/tmp /new/root /new/run /new/var
	cd /new && mount -o move . / && exec chroot . /init moved
fi
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/pts
mount -t devpts none /dev/pts
for m in $(cat /lib/modules/order); do insmod /lib/modules/$m; done
cg=/sys/fs/cgroup
`

// unifiedGroups mounts control groups of version 2 alone, with all controllers, and makes
// groups as a service manager does: the App Engine is to start in one of its own.
const unifiedGroups = `
mount -t cgroup2 none $cg
mkdir -p $cg/system.slice/pv.service $cg/init.scope
echo 1 > $cg/init.scope/cgroup.procs
for d in $cg $cg/system.slice; do
	for c in $(cat $d/cgroup.controllers); do echo +$c > $d/cgroup.subtree_control; done
done
service=$cg/system.slice/pv.service
`

// unified starts the App Engine and prints what there is before, meanwhile and afterwards.
const unified = machineHead + unifiedGroups + `
state() { find $cg -type d | sort; cat /proc/mounts; ls /sys/class/net; cat /sys/block/loop*/loop/backing_file 2>/dev/null; }
start() {
	sh -c 'echo $$ > '$service'/cgroup.procs; exec pantavisor -i' >> /tmp/log 2>&1 &
	i=0
	until pvcontrol ls 2>/dev/null | grep -q '"status":"STARTED"'; do
		i=$((i + 1))
		kill -0 $! && [ $i -lt 300 ] || break
		sleep 0.1
	done
}
tar -xzf /appengine.tgz -C /tmp
/tmp/appengine/install /opt/pantavisor >/dev/null
state > /tmp/before
start
echo "INSIDE $(pventer -c sdk 'cat /proc/self/cgroup; ls -d /sys/fs/cgroup/cgroup.controllers; pvcontrol ls' | tr '\n' ' ')"
find $cg -type d | sed -n "s|^$cg/pantavisor/[^/]*|GROUP |p" | tr '\n' ' '
kill -9 $!
wait $!
start
echo "AGAIN $(pvcontrol ls)"
pvcontrol cmd poweroff
wait $!
echo "EXIT $?"
i=0 # the kernel lets loop devices go a moment later
until state | cmp -s /tmp/before - || [ $i -gt 100 ]; do i=$((i + 1)); sleep 0.1; done
state | diff /tmp/before - && echo NOTHING IS LEFT
cat /tmp/log
echo THE END
while :; do sleep 60; done # a machine that powers off drops what its console has not sent yet
`

// machineModules are what the App Engine needs of a kernel.
var machineModules = []string{"loop", "squashfs", "overlay"}

// machineInitrd makes the machine's root of the container sdk, which is all of a Linux
// that a shell needs, with init as process 1 and the files of a directory as /files.
func machineInitrd(t *testing.T, tarball, modules, init, files string) string {
	t.Helper()
	oracle.Need(t, "tar", "unsquashfs", "cpio")
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	tool := func(words ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
	}
	tool("tar", "-xzf", tarball, "-C", dir)
	tool("unsquashfs", "-q", "-n", "-d", root, filepath.Join(dir, "appengine/storage/trails/0/sdk/root.squashfs"))
	index, err := kernel.Scan(modules)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := index.Closure(machineModules)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, m := range set {
		name := filepath.Base(m.Path)
		tool("install", "-D", "-m", "644", filepath.Join(modules, m.Path), filepath.Join(root, "lib/modules", name))
		order = append(order, name)
	}
	for name, text := range map[string]string{"init": init, "lib/modules/order": strings.Join(order, "\n")} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tool("cp", tarball, filepath.Join(root, "appengine.tgz"))
	tool("mkdir", "-p", filepath.Join(root, "new"))
	tool("cp", "-a", files, filepath.Join(root, "files"))
	tool("sh", "-c", "cd "+root+" && find . | cpio --quiet -o -H newc >../initrd")
	return filepath.Join(dir, "initrd")
}

// machine is how a virtual machine with Debian's kernel is started.
type machine struct {
	init   string // the script that is process 1; it ends with the line "THE END"
	files  string // a directory that it finds as /files
	append string // words for the kernel
}

// machineTime is how long a machine may take: emulation on a busy machine.
const machineTime = 15 * time.Minute

// run starts the machine and returns what it prints.
func (c machine) run(t *testing.T, r *Runner) string {
	t.Helper()
	device, err := targets.Load(targets.Builtin(), "x64-uefi")
	if err != nil {
		t.Fatal(err)
	}
	oracle.Emulator(t, emulator.Missing(device.Emulators[0]))
	tarball, err := r.Builder.Package(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parts := partstest.New(t, "x64-uefi", sources.Request)
	tree := parts.Run(&sources.PackageTree{Package: parts.Package(sources.Request, "linux-image-*")})
	images, _ := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	modules, _ := filepath.Glob(filepath.Join(tree, "lib/modules/*"))
	if len(images) != 1 || len(modules) != 1 {
		t.Fatalf("%s has kernels %v and modules %v, want one of each", tree, images, modules)
	}
	ctx, cancel := context.WithTimeout(t.Context(), machineTime)
	defer cancel()
	e := device.Emulators[0]
	e.Firmware, e.Memory = "", max(e.Memory, 768)
	m, err := emulator.Start(ctx, emulator.Config{
		Emulator: e, Kernel: images[0], Initrd: machineInitrd(t, tarball, modules[0], c.init, c.files),
		Append: "console=ttyS0 panic=-1 rdinit=/init quiet " + c.append, NoNetwork: true, Accelerator: emulator.Accelerator(ctx, device.Emulators[0]), Args: []string{"-no-reboot"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	screen, err := m.Console.Expect(ctx, "THE END")
	if err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	return strings.ReplaceAll(screen, "\r", "")
}

// TestUnifiedControlGroups runs the package on a machine without control groups of
// version 1, whose kernel has every controller.
func TestUnifiedControlGroups(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	r, _ := runner(t)
	screen := machine{init: unified, files: t.TempDir()}.run(t, r)
	for _, want := range []string{
		`INSIDE 0::/ /sys/fs/cgroup/cgroup.controllers [{"name":"sdk"`, "GROUP /lxc/sdk", `AGAIN [{"name":"sdk"`,
		"was killed; removing what it has left", "EXIT 3", "NOTHING IS LEFT",
	} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q does not show", want)
		}
	}
	if t.Failed() {
		t.Logf("the machine said:\n%s", screen)
	}
}

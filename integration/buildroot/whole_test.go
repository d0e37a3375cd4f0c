package buildroot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// builds stands for Buildroot: make writes what a whole build leaves, and pvcompose composes by a copy.
const builds = `
all:
	@grep -q PANTAVISOR_STAND_INS $(O)/local.mk
	@mkdir -p $(O)/images/pantavisor/containers $(O)/host/bin $(O)/target
	@touch $(O)/images/rootfs.squashfs $(O)/images/pantavisor/containers/app.pvr.tgz $(O)/images/rootfs.cpio $(O)/target/init
	@touch $(O)/images/pantavisor/qemu_m.pvr.tgz $(O)/images/pantavisor/qemu_m-pv-1024MiB.img.bmap
	@echo '{"epoch": 17}' > $(O)/images/pantavisor/inputs.json
	@$(IMAGE) $(O)/images/pantavisor/qemu_m-pv-1024MiB.img
	@cp pvcompose $(O)/host/bin/pvcompose
clean:
	@rm -rf $(O)/images
olddefconfig: ;
%_defconfig:
	@mkdir -p $(O) && cp $(BR2_EXTERNAL)/configs/$@ $(O)/.config
`

const composes = `#!/bin/sh
case $1 in
from-buildroot) case "$*" in *"--epoch 17 --with "*) ;; *) exit 1 ;; esac ;;
build) mkdir -p "$5" && COMPOSED > "$5/qemu_m-pv-1024MiB.img" ;;
esac
`

// written writes files below a new directory.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestWhole goes through the steps of a machine, with builds that go wrong in one of them each.
func TestWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		image, composed string // how they are made
		parts, boots    error
		want            []string // the states of the steps
		why             string
	}{
		"all is well":         {"echo 1 >", "echo 1", nil, nil, []string{"ok", "ok", "ok", "ok", "ok"}, ""},
		"programs are absent": {"echo 1 >", "echo 1", fault.New(fault.Missing, "it needs x"), nil, []string{"not run", "not run", "not run", "not run", "not run"}, "it needs x"},
		"no parts":            {"echo 1 >", "echo 1", errors.New("no kernel"), nil, []string{"failed", "not run", "not run", "not run", "not run"}, "no kernel"},
		"no image":            {"true", "echo 1", nil, nil, []string{"ok", "failed", "not run", "not run", "not run"}, "make has not made it"},
		"another image":       {"echo 1 >", "echo 2", nil, nil, []string{"ok", "ok", "ok", "failed", "ok"}, "differ"},
		"it does not boot":    {"echo 1 >", "echo 1", nil, errors.New("app: EXITED"), []string{"ok", "ok", "ok", "ok", "failed"}, "app: EXITED"},
		"made again":          {"sleep 0.01; date +%N >", "true", nil, nil, []string{"ok", "ok", "failed"}, "nothing was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := "test -e $(O)/images/pantavisor/qemu_m-pv-1024MiB.img || " + c.image
			if name == "made again" {
				image = c.image
			}
			dir := written(t, map[string]string{
				"br/Makefile": "IMAGE = " + image + builds, "br/pvcompose": strings.Replace(composes, "COMPOSED", c.composed, 1),
				"ext/configs/pantavisor_container_m_defconfig": "", "ext/configs/pantavisor_qemu_m_defconfig": "",
				"parts/kernel": "k", "parts/config": "c", "parts/busybox": "b", "parts/lib/modules/6.1/modules.dep": "", "parts/u-boot.bin": "u",
			})
			parts := filepath.Join(dir, "parts")
			m := Machine{
				Name: "m",
				Parts: func(context.Context, string) (Parts, error) {
					return Parts{
						Kernel: filepath.Join(parts, "kernel"), KernelConfig: filepath.Join(parts, "config"), Modules: parts,
						Busybox: filepath.Join(parts, "busybox"), UBoot: filepath.Join(parts, "u-boot.bin"),
					}, c.parts
				},
				Boot: func(_ context.Context, image string) error {
					_, err := os.Stat(image)
					return errors.Join(err, c.boots)
				},
			}
			var told []Result
			check := &check{Options: Options{
				Tree: filepath.Join(dir, "br"), External: filepath.Join(dir, "ext"), Work: filepath.Join(dir, "work"), Tell: func(r Result) { told = append(told, r) },
			}}
			why := ""
			for i, s := range check.whole(m) {
				check.tell(s.name, 0, s.run(t.Context()))
				if why += told[i].Why; i < len(c.want) && told[i].State != c.want[i] {
					t.Errorf("%s: %s; want %s", s.name, told[i], c.want[i])
				}
			}
			if !strings.Contains(why, c.why) {
				t.Errorf("it says %q; want %q", why, c.why)
			}
			if c.parts == nil {
				if release, err := os.ReadFile(filepath.Join(dir, "work/standins-m/linux/release")); err != nil || string(release) != "6.1\n" {
					t.Errorf("the kernel is %q, %v", release, err)
				}
			}
		})
	}
}

// TestStandIns installs BusyBox, beside a file that another package has made, and the kernel.
func TestStandIns(t *testing.T) {
	t.Parallel()
	gnuMake := oracle.Program(t, "make")
	dir := written(t, map[string]string{"target/bin/login": "mine"})
	p := Parts{Kernel: os.Args[0], KernelConfig: os.Args[0], Busybox: os.Args[0], UBoot: os.Args[0], Modules: written(t, map[string]string{"lib/modules/6.1/modules.dep": ""})}
	if err := p.write(t.Context(), filepath.Join(dir, "in")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-C", "in/busybox", "olddefconfig", "all", "install-noclobber", "CONFIG_PREFIX=" + filepath.Join(dir, "target")},
		{"-C", "in/uboot", "qemu_arm64_defconfig", "olddefconfig"},
		{"-C", "in/linux", "ARCH=x86_64", "olddefconfig", "all", "modules_install", "INSTALL_MOD_PATH=" + filepath.Join(dir, "target")},
	} {
		cmd := exec.CommandContext(t.Context(), gnuMake, args...)
		cmd.Dir = dir
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, said)
		}
	}
	for name, want := range map[string]string{"bin/sh": "busybox", "sbin/init": "../bin/busybox"} {
		if to, err := os.Readlink(filepath.Join(dir, "target", name)); err != nil || to != want {
			t.Errorf("%s leads to %q, %v; want %s", name, to, err, want)
		}
	}
	if text := read(t, filepath.Join(dir, "target/bin/login")); text != "mine" {
		t.Errorf("login is %q", text)
	}
	for _, name := range []string{"target/lib/modules/6.1/modules.dep", "in/linux/arch/x86/boot/bzImage", "in/linux/.config", "in/linux/include/config/kernel.release", "in/uboot/.config", "in/uboot/u-boot.bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

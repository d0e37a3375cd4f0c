package buildroot

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Machine is a virtual machine for which whole builds are made: with the defconfigs
// pantavisor_container_NAME and pantavisor_qemu_NAME.
type Machine struct {
	Name string
	// Parts saves what the builds take in place of compiling it into a new directory. An error
	// of the kind Missing says what this machine lacks.
	Parts func(ctx context.Context, dir string) (Parts, error)
	// Boot boots an image until its containers have reached their goals; nil for an image that
	// is only made.
	Boot func(ctx context.Context, image string) error
}

// Parts are finished files of Debian for whole builds.
type Parts struct {
	// Kernel is its image, KernelConfig its configuration, and Modules a directory with
	// lib/modules/RELEASE of it alone.
	Kernel, KernelConfig, Modules string
	// Busybox is the static program.
	Busybox string
	// Grub is the directory with the modules of GRUB, of the version of grub-mkimage on the
	// PATH; "" for another boot loader.
	Grub string
	// UBoot is the program u-boot.bin; "" for another boot loader.
	UBoot string
}

// standIns are what local.mk includes, and the sources of packages whose content is Parts.
//
//go:embed standins
var standIns embed.FS

// write writes what local.mk includes and the sources into a directory, which is made anew.
func (p *Parts) write(ctx context.Context, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	sources, err := fs.Sub(standIns, "standins")
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, sources); err != nil {
		return err
	}
	releases, err := os.ReadDir(filepath.Join(p.Modules, "lib/modules"))
	if err != nil {
		return err
	}
	if len(releases) != 1 {
		return fault.New(fault.Internal, "%s has the modules of %d kernels; want those of one", p.Modules, len(releases))
	}
	if err := os.WriteFile(filepath.Join(dir, "linux/release"), []byte(releases[0].Name()+"\n"), 0o644); err != nil {
		return err
	}
	for _, c := range []struct{ to, from string }{
		{"linux/image", p.Kernel}, {"linux/config", p.KernelConfig}, {"linux/modules", p.Modules}, {"busybox/busybox", p.Busybox},
		{"grub2/build-x86_64-efi/grub-core", p.Grub}, {"uboot/u-boot.bin", p.UBoot}, {"empty", ""},
	} {
		to := filepath.Join(dir, c.to)
		if c.from == "" {
			err = os.MkdirAll(to, 0o755)
		} else {
			err = copyAll(ctx, c.from, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyAll copies a file, or a directory with all that is in it.
func copyAll(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	said, err := exec.CommandContext(ctx, "cp", "-a", "--", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copying %s: %w: %s", from, err, bytes.TrimSpace(said))
	}
	return nil
}

// whole are the steps of a machine: builds with what the defconfigs say, from make to the image.
func (c *check) whole(m Machine) []step {
	w := &wholeBuild{check: c, Machine: m, app: "pantavisor_container_" + m.Name, bsp: "pantavisor_qemu_" + m.Name}
	steps := []step{
		{"whole build of " + w.app, w.container},
		{"whole build of " + w.bsp, w.image},
		{"a second make in " + w.bsp, w.again},
		{"pvcompose from-buildroot of both for " + m.Name, w.outside},
	}
	if m.Boot != nil {
		steps = append(steps, step{"boot of the image of " + w.bsp, func(ctx context.Context) error {
			if !w.imageMade {
				return notRun("there is no image")
			}
			return m.Boot(ctx, w.imageFile())
		}})
	}
	return steps
}

// wholeBuild are the two builds of a machine. A step needs those before it.
type wholeBuild struct {
	*check
	Machine
	app, bsp                 string
	containerMade, imageMade bool
}

func (w *wholeBuild) out(name string) string { return filepath.Join(w.Work, name) }

func (w *wholeBuild) imageFile() string {
	return filepath.Join(w.out(w.bsp), "images/pantavisor/qemu_"+w.Name+"-pv-1024MiB.img")
}

// container makes the build that is a container.
func (w *wholeBuild) container(ctx context.Context) error {
	dir := filepath.Join(w.Work, "parts-"+w.Name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	parts, err := w.Parts(ctx, dir)
	if fault.Of(err) == fault.Missing {
		return notRun(err.Error())
	}
	if err != nil {
		return err
	}
	if err := parts.write(ctx, w.out("standins-"+w.Name)); err != nil {
		return err
	}
	if err := w.wholeMake(ctx, w.app, ""); err != nil {
		return err
	}
	if err := lacks(w.out(w.app), "images/rootfs.squashfs", "images/pantavisor/containers/app.pvr.tgz"); err != nil {
		return err
	}
	w.containerMade = true
	return nil
}

// image makes the build that is a BSP, and the image with the container.
func (w *wholeBuild) image(ctx context.Context) error {
	if !w.containerMade {
		return notRun("the container is not built")
	}
	if err := w.wholeMake(ctx, w.bsp, fmt.Sprintf("BR2_PANTAVISOR_CONTAINERS=%q\n", w.out(w.app))); err != nil {
		return err
	}
	if err := lacks(w.out(w.bsp), "images/rootfs.cpio", "target/init", "images/pantavisor/qemu_"+w.Name+".pvr.tgz"); err != nil {
		return err
	}
	if err := lacks("", w.imageFile(), w.imageFile()+".bmap"); err != nil {
		return err
	}
	w.imageMade = true
	return nil
}

// lacks says what is missing in a directory.
func lacks(dir string, names ...string) error {
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("make has not made it: %w", err)
		}
	}
	return nil
}

// wholeMake configures a build and makes all of it anew.
func (w *wholeBuild) wholeMake(ctx context.Context, name, options string) error {
	out, err := w.prepare(ctx, name, "PANTAVISOR_STAND_INS = "+w.out("standins-"+w.Name)+"\ninclude $(PANTAVISOR_STAND_INS)/packages.make\n", options)
	if err != nil {
		return err
	}
	if _, err := w.run(ctx, "make", "-s", "O="+out, "clean"); err != nil {
		return err
	}
	return w.wholeRun(ctx, out)
}

// wholeRun runs make without a word of what is made.
func (w *wholeBuild) wholeRun(ctx context.Context, out string) error {
	tar, err := exec.LookPath("tar")
	if err != nil {
		return notRun("it needs tar")
	}
	args := []string{"O=" + out, "BR2_TAR_HOST_DEPENDENCY=", "TAR=" + tar}
	// Toolchains are read before local.mk, and nothing is compiled with one.
	for _, set := range []string{
		"OVERRIDE_SRCDIR=" + w.out("standins-"+w.Name+"/empty"), "DEPENDENCIES=host-skeleton",
		"CONFIGURE_CMDS=@:", "BUILD_CMDS=@:", "INSTALL_STAGING_CMDS=@:", "INSTALL_TARGET_CMDS=@:",
	} {
		args = append(args, "TOOLCHAIN_EXTERNAL_BOOTLIN_"+set)
	}
	_, err = w.run(ctx, "make", args...)
	return err
}

// again runs make once more: the composer must find its results as they are, and write nothing.
func (w *wholeBuild) again(ctx context.Context) error {
	if !w.imageMade {
		return notRun("there is no image")
	}
	before, err := os.Stat(w.imageFile())
	if err != nil {
		return err
	}
	if err := w.wholeRun(ctx, w.out(w.bsp)); err != nil {
		return err
	}
	after, err := os.Stat(w.imageFile())
	if err != nil {
		return err
	}
	if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		return fmt.Errorf("nothing was changed, and %s was made again", w.imageFile())
	}
	return nil
}

// maxList bounds a list of inputs, in bytes.
const maxList = 1 << 20

// outside composes both output directories without make. The image must be that of the build, bit
// for bit.
func (w *wholeBuild) outside(ctx context.Context) error {
	if !w.imageMade {
		return notRun("there is no image")
	}
	text, err := bounded.ReadRegular(filepath.Join(w.out(w.bsp), "images/pantavisor/inputs.json"), maxList)
	if err != nil {
		return err
	}
	var made struct {
		Epoch int64 `json:"epoch"`
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return err
	}
	dir := w.out("outside-" + w.Name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	pvcompose, list := filepath.Join(w.out(w.bsp), "host/bin/pvcompose"), filepath.Join(dir, "inputs.json")
	if _, err := w.run(ctx, pvcompose, "from-buildroot", w.out(w.bsp), w.out(w.app), "--epoch", strconv.FormatInt(made.Epoch, 10),
		"--with", filepath.Join(w.External, "board/qemu_"+w.Name, "with.yaml"), "--out", list); err != nil {
		return err
	}
	if _, err := w.run(ctx, pvcompose, "build", "--inputs", list, "--out", filepath.Join(dir, "out")); err != nil {
		return err
	}
	_, err = w.run(ctx, "cmp", w.imageFile(), filepath.Join(dir, "out", filepath.Base(w.imageFile())))
	return err
}

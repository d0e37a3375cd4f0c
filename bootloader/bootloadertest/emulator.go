package bootloadertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// Emulate runs an emulator until the machine powers off and returns its serial console, without
// carriage returns. limit is for a busy computer.
func Emulate(t *testing.T, limit time.Duration, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	args = append([]string{"-nodefaults", "-display", "none", "-accel", "tcg", "-serial", "stdio"}, args...)
	cmd := exec.CommandContext(ctx, program, args...)
	var console, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("emulator: %v\n%s\nconsole:\n%s", err, errs.String(), Tail(console.String()))
	}
	return strings.ReplaceAll(console.String(), "\r", "")
}

// Tail returns the end of a console.
func Tail(console string) string { return console[max(0, len(console)-4000):] }

// Files of Debian's package ovmf.
const (
	uefiCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	uefiVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// NeedUEFI skips the test without the firmware that [UEFI] names.
func NeedUEFI(t *testing.T) {
	t.Helper()
	needFirmware(t, "ovmf", uefiCode, uefiVars)
}

// UEFI returns QEMU's arguments for a PC with UEFI firmware that has new variables.
func UEFI(t *testing.T) []string {
	t.Helper()
	nvram := filepath.Join(t.TempDir(), "vars.fd")
	data, err := os.ReadFile(uefiVars)
	if err != nil {
		t.Fatal(err)
	}
	Write(t, nvram, data)
	return []string{"-machine", "q35", "-drive", "if=pflash,format=raw,readonly=on,file=" + uefiCode, "-drive", "if=pflash,format=raw,file=" + nvram}
}

// uboot is that of Debian's package u-boot-qemu for the machine virt.
const uboot = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"

// NeedUBoot skips the test without the emulator and the firmware of [UBoot].
func NeedUBoot(t *testing.T) {
	t.Helper()
	oracle.Need(t, "qemu-system-aarch64")
	needFirmware(t, "u-boot-qemu", uboot)
}

// UBoot returns QEMU's arguments for an ARM machine that starts Debian's U-Boot.
func UBoot() []string {
	return []string{"-machine", "virt", "-cpu", "cortex-a57", "-bios", uboot}
}

func needFirmware(t *testing.T, pkg string, files ...string) {
	t.Helper()
	var missing []string
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, file+" (package "+pkg+")")
		}
	}
	oracle.Emulator(t, missing)
}

// FAT makes a FAT32 file system with the files of a directory on a disk, at an offset in bytes.
func FAT(t *testing.T, disk string, offset, size int64, dir string, more ...string) {
	t.Helper()
	args := append(more, "-F", "32", "--offset", fmt.Sprint(offset/512), disk, fmt.Sprint(size/1024))
	Command(t, "mkfs.vfat", args...)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		Command(t, "mcopy", "-s", "-i", Volume(disk, offset), filepath.Join(dir, e.Name()), "::/")
	}
}

// Volume is how mtools name a file system on a disk.
func Volume(disk string, offset int64) string { return fmt.Sprintf("%s@@%d", disk, offset) }

// Ext4 makes an ext4 file system as images have it, with the files of a directory, on a disk at
// an offset in bytes.
func Ext4(t *testing.T, disk string, offset, size int64, dir, label string) {
	t.Helper()
	var entries []tree.Entry
	err := tree.Walk(t.Context(), dir, tree.Options{}, func(e tree.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	o := ext4.Options{Size: size, InodeRatio: 8192, Label: label, Time: time.Unix(build.Epoch, 0)}
	if size >= 16<<20 {
		o.Journal = 4 << 20
	}
	writeExt4(t, disk, offset, entries, o)
}

// writeExt4 makes an ext4 file system of entries on a disk at an offset in bytes.
func writeExt4(t *testing.T, disk string, offset int64, entries []tree.Entry, o ext4.Options) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ext4.Write(t.Context(), io.NewOffsetWriter(f, offset), entries, o); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Flash goes through the operations of the stores in flash memory on the kernel's own memories:
// one in RAM, and a simulated NAND.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/ubootstate"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("FAILED", err)
	}
	fmt.Println("END")
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for dir, typ := range map[string]string{"/dev": "devtmpfs", "/proc": "proc", "/sys": "sysfs"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(typ, dir, typ, 0, "")); err != nil {
			return err
		}
	}
	if err := load(); err != nil {
		return err
	}
	return errors.Join(values("mtdram test device"), values("NAND simulator partition 0"), mark("NAND simulator partition 0"), slots())
}

// load loads the modules in their order, with their parameters.
func load() error {
	text, err := os.ReadFile("/modules")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		file, parameters, _ := strings.Cut(strings.TrimSpace(line), " ")
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("loading %s: %w", file, err)
		}
		_ = f.Close()
	}
	return nil
}

// device opens a memory by its name.
func device(name string) (*os.File, error) {
	names, err := filepath.Glob("/sys/class/mtd/mtd*/name")
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		dir := filepath.Dir(file)
		if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == name && !strings.HasSuffix(dir, "ro") {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(dir)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no memory %q in %v", name, names)
}

func store(settings ...string) (boot.Store, error) {
	c := config.New()
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		c.Set(config.PVConf, key, value)
	}
	return boot.Configured(c, "/storage")
}

// report prints what the store then has.
func report(what string, s boot.Store, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	v, err := s.Load()
	fmt.Printf("STORE %s rev=%s try=%s\n", what, v.Rev, v.Try)
	return err
}

// values keeps the values in a memory alone, and prints whether both copies are complete.
func values(name string) error {
	s, err := store("PV_BOOTLOADER_TYPE=uboot-pvk", "PV_BOOTLOADER_MTD_ONLY=1", "PV_BOOTLOADER_MTD_ENV="+name)
	if err != nil {
		return err
	}
	if err := errors.Join(
		report("new", s, nil), report("commit", s, s.Commit("3")), report("try", s, s.SetTry("locals/x")), report("clear", s, s.ClearTry()),
	); err != nil {
		return err
	}
	f, err := device(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data := make([]byte, 64<<20)
	n, err := f.ReadAt(data, 0)
	if n == 0 {
		return err
	}
	fmt.Printf("COPIES %d\n", bytes.Count(data[:n], binary.NativeEndian.AppendUint32(nil, ubootstate.Word)))
	return nil
}

// mark erases the mark that an older U-Boot has left.
func mark(name string) error {
	f, err := device(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := store("PV_BOOTLOADER_TYPE=uboot", "PV_BOOTLOADER_MTD_ENV="+name)
	if err != nil {
		return err
	}
	err = report("marked", s, s.Commit("4"))
	first := make([]byte, 2048)
	if _, later := f.ReadAt(first, 0); later != nil {
		err = errors.Join(err, later)
	}
	fmt.Printf("ERASED %v\n", len(bytes.Trim(first, "\xff")) == 0)
	return err
}

// slots writes FITs and the environment of a loader with two slots.
func slots() error {
	const name = "NAND simulator partition "
	env, err := device(name + "1")
	if err != nil {
		return err
	}
	defer env.Close()
	data, err := ubootenv.Block{Size: 128 << 10, Order: binary.NativeEndian, Redundant: true}.Encode([]ubootenv.Entry{{Name: "pv_rev", Value: "0"}}, 1)
	if err != nil {
		return err
	}
	if _, err := env.Write(data); err != nil {
		return err
	}
	for _, rev := range []string{"0", "1"} {
		file := filepath.Join("/storage/trails", rev, ".pv/pantavisor.fit")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, bytes.Repeat([]byte(rev), 300000), 0o600)); err != nil {
			return err
		}
	}
	s, err := store("PV_BOOTLOADER_TYPE=uboot-ab", "PV_BOOTLOADER_UBOOTAB_A_NAME="+name+"3", "PV_BOOTLOADER_UBOOTAB_B_NAME="+name+"4",
		"PV_BOOTLOADER_UBOOTAB_ENV_NAME="+name+"1", "PV_BOOTLOADER_UBOOTAB_ENV_BAK_NAME="+name+"2", "PV_BOOTLOADER_UBOOTAB_ENV_SIZE=131072")
	if err != nil {
		return err
	}
	if err := errors.Join(
		report("first", s, s.Commit("0")), report("slot", s, s.SetTry("1")), report("kept", s, s.Commit("1")), report("back", s, s.SetTry("0")),
	); err != nil {
		return err
	}
	for _, slot := range []string{"3", "4"} {
		f, err := device(name + slot)
		if err != nil {
			return err
		}
		header := make([]byte, fitslot.Size)
		if _, err := f.ReadAt(header, 0); err != nil {
			return errors.Join(err, f.Close())
		}
		fmt.Printf("SLOT %s\n", fitslot.Decode(header))
		_ = f.Close()
	}
	return nil
}

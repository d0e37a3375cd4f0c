// Init attaches a simulated NAND flash, writes the image of the initrd to it, and prints
// what the kernel reads from its file system, before and after it has written to it.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/storage"
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
	if err := load("flash"); err != nil {
		return err
	}
	image, err := os.ReadFile("/image")
	if err != nil {
		return err
	}
	flash, err := os.OpenFile("/dev/mtd0", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := flash.Write(image); err != nil {
		return err
	}
	if err := errors.Join(flash.Close(), load("ubi")); err != nil {
		return err
	}
	for _, pass := range []string{"first", "second"} {
		if err := use(pass); err != nil {
			return err
		}
	}
	return nil
}

// load loads the modules that a file lists with their parameters.
func load(list string) error {
	text, err := os.ReadFile("/" + list)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		file, parameters, _ := strings.Cut(line, " ")
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

// use mounts the storage as the runtime does, lists and changes it.
func use(pass string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	device, _, err := storage.Find(ctx, storage.Want{Spec: "LABEL=boot"})
	if err != nil {
		return err
	}
	if err := storage.Mount(device, storage.MountOptions{Target: "/storage", Type: "ubifs"}); err != nil {
		return err
	}
	if grown, err := storage.GrowFilesystem(device, "/storage"); grown || err != nil {
		return fmt.Errorf("growing: %v, %w", grown, err)
	}
	fmt.Println("MOUNTED", pass, device.Path)
	if err := list(pass); err != nil {
		return err
	}
	name := "/storage/" + pass
	data := []byte(strings.Repeat("written by the kernel\n", 20_000))
	if err := errors.Join(os.WriteFile(name, data, 0o600), os.Link(name, name+".link"), os.Remove("/storage/gone."+pass)); err != nil {
		return err
	}
	return unix.Unmount("/storage", 0)
}

func list(pass string) error {
	return filepath.WalkDir("/storage", func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		what := ""
		switch {
		case e.Type() == fs.ModeSymlink:
			what, err = os.Readlink(file)
		case e.Type().IsRegular():
			var data []byte
			data, err = os.ReadFile(file)
			what = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
		}
		fmt.Printf("%s %s %v %d %d:%d %d %s\n", strings.ToUpper(pass), strings.TrimPrefix(file, "/storage"), info.Mode(), s.Nlink, s.Uid, s.Gid, s.Mtim.Sec, what)
		return err
	})
}

package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fatfile"
	"github.com/pantavisor/pantavisor/runtime/storage"
)

// efi is the first stage for UEFI firmware. Its flag is a file of the EFI system partition, which
// it clears before it boots from the partition that the file names.
type efi struct {
	open func(number int) (Partition, error)
	from func() (int, error) // the number of the partition that was booted
}

var _ firmware = efi{}

// newEFIAB returns the store of a machine with UEFI firmware.
func newEFIAB(dir string, m Machine) *slots {
	return &slots{
		file: file{path: filepath.Join(dir, "boot/efiab.txt"), form: uboot{}}, trails: filepath.Join(dir, "trails"), boot: "efiboot.img",
		firmware: efi{m.Open, m.Booted}, text: autoboot.Choice.BlockText, open: m.Open,
	}
}

// ready rejects a first partition without the file that names the partition to try.
func (e efi) ready() (err error) {
	p, err := e.open(selector)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if _, err := fatfile.Read(p, autoboot.OnceFile); err != nil {
		return fmt.Errorf("the loader of partition %d cannot be asked to try another: %w", selector, err)
	}
	return nil
}

// booted rejects any other partition: what runs must be known for sure before it is committed.
func (e efi) booted(choice autoboot.Choice) (int, error) {
	number, err := e.from()
	if err == nil && number != choice.Default && number != choice.Try {
		err = fmt.Errorf("the firmware has booted from partition %d; %s has %d and %d", number, autoboot.FileName, choice.Default, choice.Try)
	}
	return number, err
}

func (e efi) ask(number int) error { return e.once(number) }

func (e efi) forget() error { return e.once(0) }

// once writes the number of the partition to boot from once, by one write.
func (e efi) once(number int) (err error) {
	p, err := e.open(selector)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := fatfile.Write(p, autoboot.OnceFile, []byte(autoboot.OnceText(number))); err != nil {
		return fmt.Errorf("asking the loader for partition %d: %w", number, err)
	}
	return p.Sync()
}

// bootedPartition returns the number of the partition that the running kernel was loaded from.
func bootedPartition() (int, error) {
	value, err := efiVariable(devicePartUUID)
	if err != nil {
		return 0, fmt.Errorf("asking the firmware for the booted partition: %w", err)
	}
	d, _, ok := storage.Look(storage.Want{Spec: "PARTUUID=" + value})
	if !ok {
		return 0, fmt.Errorf("looking for the booted partition: none has the PARTUUID %s", value)
	}
	return d.Partition, nil
}

// devicePartUUID is the variable with the PARTUUID of the partition that the stub was loaded from
// (systemd: Boot Loader Interface).
const devicePartUUID = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// efiVariable returns a text from a variable of the firmware, through a file system that is not
// mounted anywhere.
func efiVariable(name string) (string, error) {
	config, err := unix.Fsopen("efivarfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("opening efivarfs: %w", err)
	}
	defer unix.Close(config)
	if err := unix.FsconfigCreate(config); err != nil {
		return "", fmt.Errorf("opening efivarfs: %w", err)
	}
	dir, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return "", fmt.Errorf("opening efivarfs: %w", err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("variable %s: %w", name, err)
	}
	defer unix.Close(fd)
	b := make([]byte, 1024)
	n, err := unix.Read(fd, b)
	if err != nil {
		return "", fmt.Errorf("variable %s: %w", name, err)
	}
	return efiText(b[:n])
}

// efiText returns the text in the content of a file of efivarfs: 4 bytes of attributes, then
// UTF-16 that ends with a zero.
func efiText(b []byte) (string, error) {
	if len(b) < 4 || len(b)%2 != 0 {
		return "", fmt.Errorf("a variable with %d bytes has no text", len(b))
	}
	var units []uint16
	for b = b[4:]; len(b) > 0; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return strings.TrimRight(string(utf16.Decode(units)), "\x00"), nil
}

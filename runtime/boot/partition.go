package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Machine is what a store with boot partitions needs of its device. Where there is no such device,
// as in an emulator or with a disk that was taken out of it, somebody else stands in.
type Machine struct {
	// Open opens a partition of the disk by its number.
	Open func(number int) (Partition, error)
	// Booted is the number of the partition that the running kernel was loaded from (efiab).
	Booted func() (int, error)
	// Tree is the directory with what the firmware says of this boot (rpiab).
	Tree string
	// Tryboot says whether the firmware boots from the other partition once, at the next
	// restart (rpiab).
	Tryboot func(on bool) error
	// Answers reports why there is no way to ask it for that (rpiab).
	Answers func() error
	// BootID names this boot (rpiab).
	BootID func() (string, error)
}

// thisMachine is the one that runs, with its storage mounted at dir.
func thisMachine(dir string) Machine {
	return Machine{
		Open:   func(number int) (Partition, error) { return openPartition(dir, number) },
		Booted: bootedPartition, Tree: "/proc/device-tree/chosen/bootloader", Tryboot: setTryboot, Answers: answersTryboot, BootID: bootID,
	}
}

// OpenOn is [Open] for a loader with boot partitions, rpiab or efiab, on another machine.
func OpenOn(loader, dir string, m Machine) (Store, error) {
	switch loader {
	case "rpiab":
		return newRPiAB(dir, m), nil
	case "efiab":
		return newEFIAB(dir, m), nil
	}
	return nil, fmt.Errorf("boot loader %q has no boot partitions", loader)
}

// openPartition opens a partition of the disk that has the storage mounted at dir, by its number.
func openPartition(dir string, number int) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("looking for the disk of the storage: %w", err)
	}
	own, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))) //nolint:unconvert // 32 bits wide on some architectures
	if err != nil {
		return nil, fmt.Errorf("looking for the disk of the storage: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(own), "*/partition"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if n, bad := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && bad == nil && n == number {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(file))), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("looking for boot partition %d: the disk of the storage has none", number)
}

// bootID returns the kernel's name for this boot.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("asking for the name of this boot: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// forget drops what the kernel remembers of a partition, so that reading asks the medium. It is
// an aid: without it the comparison sees less.
func forget(p Partition) {
	if f, ok := p.(*os.File); ok {
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
}

// mailbox is the kernel's way to the firmware (drivers/char/broadcom/vcio.c of the kernel of
// Raspberry Pi).
const mailbox = "/dev/vcio"

// The firmware's property that holds until the next restart; tryboot is its bit 0.
const (
	getRebootFlags = 0x00030064
	setRebootFlags = 0x00038064
	tryboot        = 1
)

// mailboxRequest is IOCTL_MBOX_PROPERTY, _IOWR(100, 0, char *).
const mailboxRequest = 0xC0000000 | uint(unsafe.Sizeof(uintptr(0)))<<16 | 100<<8

// answered is the firmware's word for a request that it has carried out.
const answered = 0x80000000

// setTryboot says whether the firmware boots from the other partition once, at the next restart.
func setTryboot(on bool) error {
	if on {
		return askFirmware(setRebootFlags, tryboot)
	}
	return askFirmware(setRebootFlags, 0)
}

// answersTryboot returns why the firmware cannot be asked for tryboot; it changes nothing.
func answersTryboot() error { return askFirmware(getRebootFlags, 0) }

// askFirmware sends a request about the reboot flags.
func askFirmware(tag, value uint32) (err error) {
	f, err := os.OpenFile(mailbox, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("asking the firmware for tryboot: the kernel must be one for the Raspberry Pi that has %s: %w", mailbox, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	message := [7]uint32{7 * 4, 0, tag, 4, 0, value, 0} // size, request, tag, its size, request, value, end
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(mailboxRequest), uintptr(unsafe.Pointer(&message))); e != 0 {
		return fmt.Errorf("asking the firmware for tryboot: %w", e)
	}
	if message[1] != answered {
		return fmt.Errorf("asking the firmware for tryboot: it answers %#x: update it", message[1])
	}
	return nil
}

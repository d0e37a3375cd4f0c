package container

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machines are the CPUs of ELF files (e_machine, System V ABI), as Go names them; those of
// MIPS end in "le" for little-endian ones.
var machines = map[uint16]string{3: "386", 8: "mips", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}

// maxInterpreters bounds the scripts that are interpreters of scripts, as the kernel does.
const maxInterpreters = 4

// cpuOf returns the CPU that a program, or the interpreter of a script, is for; "" when that
// is not known.
func cpuOf(path string) string {
	for range maxInterpreters {
		head := headOf(path)
		line, script := bytes.CutPrefix(head, []byte("#!"))
		if !script {
			return machineOf(head)
		}
		line, _, _ = bytes.Cut(line, []byte("\n"))
		fields := strings.Fields(string(line))
		if len(fields) == 0 {
			return ""
		}
		path = fields[0]
	}
	return ""
}

// headOf returns the beginning of a regular file.
func headOf(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	buf := make([]byte, 256)
	n, _ := f.Read(buf)
	return buf[:n]
}

// machineOf returns the CPU of an ELF file by its header.
func machineOf(head []byte) string {
	if len(head) < 20 || !bytes.HasPrefix(head, []byte("\x7fELF")) {
		return ""
	}
	const little = 1 // ELFDATA2LSB of EI_DATA
	var order binary.ByteOrder = binary.BigEndian
	if head[5] == little {
		order = binary.LittleEndian
	}
	name := machines[order.Uint16(head[18:])]
	if name == "mips" && head[5] == little {
		name = "mipsle"
	}
	return name
}

// explain adds to the error of an execution that the program is for another CPU, and what
// the machine lacks to run it.
func explain(err error, cpu string) error {
	switch {
	case cpu == "" || cpu == runtime.GOARCH:
		return err
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("%w: it is a program for %s, and this machine, which is %s, has no binfmt_misc handler for it "+
			"(Debian's package qemu-user-static has one)", err, cpu, runtime.GOARCH)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: it is a program for %s, and the emulator of its binfmt_misc handler is not in the container: "+
			"register the handler with the flag F", err, cpu)
	}
	return err
}

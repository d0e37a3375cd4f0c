package emulator

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/pantavisor/pantavisor/formats/fatfile"
)

// oemFile is a file of the boot partition with variables of U-Boot, of which oemWord has
// further arguments for the kernel (bootloader/uboot/boot.cmd.tmpl).
const (
	oemFile = "oemEnv.txt"
	oemWord = "oemargs="
)

// addOEM adds arguments to the oemEnv.txt in the FAT file system at an offset of a disk.
func addOEM(disk string, offset int64, arguments string) (err error) {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	boot := partition{io.NewSectionReader(f, offset, 1<<40), io.NewOffsetWriter(f, offset)}
	old, err := fatfile.Read(boot, oemFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fatfile.Create(boot, oemFile, withArguments(nil, arguments))
	case err != nil:
		return err
	}
	return fatfile.Write(boot, oemFile, withArguments(old, arguments))
}

// partition is one of a disk.
type partition struct {
	io.ReaderAt
	io.WriterAt
}

// withArguments adds them to what the variable has, which is the last one of its name.
func withArguments(env []byte, arguments string) []byte {
	var out bytes.Buffer
	before := ""
	for line := range bytes.Lines(env) {
		line = bytes.TrimRight(line, "\r\n")
		if value, ok := bytes.CutPrefix(line, []byte(oemWord)); ok {
			before = string(value) + " "
			continue
		}
		out.Write(append(line, '\n'))
	}
	out.WriteString(oemWord + before + arguments + "\n")
	return out.Bytes()
}

package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/formats/autoboot"
)

// firstTryboot is the date of the first EEPROM loader that follows autoboot.txt.
var firstTryboot = time.Date(2022, 11, 25, 0, 0, 0, 0, time.UTC)

// raspberry is the firmware of a Raspberry Pi. Its flag is lost with the power.
type raspberry struct {
	tree    string // what the firmware says in the device tree, chosen/bootloader
	tryboot func(on bool) error
	answers func() error // whether it can be asked for tryboot
}

var _ firmware = raspberry{}

// newRPiAB returns the store of a Raspberry Pi.
func newRPiAB(dir string, m Machine) *slots {
	return &slots{
		file: file{path: filepath.Join(dir, "boot/rpiab.txt"), form: uboot{}}, trails: filepath.Join(dir, "trails"), boot: "rpiboot.img",
		firmware: raspberry{m.Tree, m.Tryboot, m.Answers}, text: autoboot.Choice.Text, bootID: m.BootID, open: m.Open,
	}
}

func (r raspberry) ask(int) error { return r.tryboot(true) }

// forget does nothing without a way to the firmware: then nothing was asked either.
func (r raspberry) forget() error {
	if err := r.tryboot(false); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// booted returns the number of the partition that was booted. The firmware's own number is not
// used: some models say 0.
func (r raspberry) booted(choice autoboot.Choice) (int, error) {
	if r.said("tryboot") == 1 {
		return choice.Try, nil
	}
	return choice.Default, nil
}

// said returns a number of the firmware's in the device tree, 0 when it does not say it.
func (r raspberry) said(name string) uint32 {
	b, err := os.ReadFile(filepath.Join(r.tree, name))
	if err != nil || len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// ready rejects the loader of an EEPROM that is too old, and a kernel without a way to the
// firmware. Models without EEPROM say no date.
func (r raspberry) ready() error {
	built := time.Unix(int64(r.said("build-timestamp")), 0).UTC()
	if built.Unix() != 0 && built.Before(firstTryboot) {
		return fmt.Errorf("the loader in the EEPROM is of %s and does not know tryboot: update it to one of %s or later",
			built.Format(time.DateOnly), firstTryboot.Format(time.DateOnly))
	}
	return r.answers()
}

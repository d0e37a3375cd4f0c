package boot

import (
	"path/filepath"

	"github.com/pantavisor/pantavisor/formats/ubootenv"
)

// Values of PV_BOOTLOADER_TYPE for a U-Boot with a boot script.
const (
	ubootLoader = "uboot"
	pvkLoader   = "uboot-pvk"
)

// newUBoot returns the store on the storage mounted at dir.
func newUBoot(dir string) *file {
	return &file{path: filepath.Join(dir, "boot/uboot.txt"), form: uboot{}}
}

// uboot is boot/uboot.txt (manual: Storage), a list of U-Boot variables. Text with lines is
// read as well; it is written back as a list.
type uboot struct{}

var _ form = uboot{}

func (uboot) decode(b []byte) ([]pair, error) {
	var out []pair
	for _, e := range ubootenv.Parse(b) {
		out = append(out, pair{e.Name, e.Value})
	}
	return out, nil
}

// encode writes pv_rev first and then pv_try, as every peer expects. An empty
// value stays as "pv_try=": a script that imports the file must see that nothing
// is to be tried.
func (uboot) encode(pairs []pair) ([]byte, error) {
	entries := []ubootenv.Entry{{Name: keyRev, Value: get(pairs, keyRev)}, {Name: keyTry, Value: get(pairs, keyTry)}}
	for _, p := range pairs {
		if p.key != keyRev && p.key != keyTry {
			entries = append(entries, ubootenv.Entry{Name: p.key, Value: p.value})
		}
	}
	b, err := ubootenv.Encode(entries)
	if err != nil {
		return nil, err
	}
	// All contents of one size can replace each other in place; zeros behind the end are not read.
	return append(b, make([]byte, (sector-len(b)%sector)%sector)...), nil
}

// sector is the unit of which the size of a list is a multiple.
const sector = 512

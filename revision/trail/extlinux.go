package trail

import (
	"strings"

	"github.com/pantavisor/pantavisor/formats/extlinux"
)

// ExtlinuxFile is the file on the storage that loaders read which start a kernel without
// a script. For them it is the store of the handshake too.
const ExtlinuxFile = "boot/extlinux/extlinux.conf"

// The labels of its entries: the last good revision, and the one to be tested. The default
// is the second until its test boot has begun.
const (
	ExtlinuxGood = "pv_rev"
	ExtlinuxTry  = "pv_try"
)

// extlinuxTimeout is how long the loader waits for another choice, in tenths of a second.
const extlinuxTimeout = 10

// Extlinux is the state of the handshake in that file.
type Extlinux struct {
	// Good is the last good revision, Try the one to be tested or empty. Tried is set when its
	// test boot has begun.
	Good, Try string
	Tried     bool
	// Arguments are the kernel's, without those of the handshake.
	Arguments string
	// DeviceTree reports whether a revision has a device tree of its own.
	DeviceTree func(rev string) bool
}

// Encode returns the file.
func (s Extlinux) Encode() ([]byte, error) {
	c := &extlinux.Config{Default: ExtlinuxGood, Timeout: extlinuxTimeout}
	c.Entries = append(c.Entries, s.entry(ExtlinuxGood, s.Good))
	if s.Try != "" {
		c.Entries = append(c.Entries, s.entry(ExtlinuxTry, s.Try))
		if !s.Tried {
			c.Default = ExtlinuxTry
		}
	}
	return c.Encode()
}

func (s Extlinux) entry(label, rev string) extlinux.Entry {
	dir := "/trails/" + rev + "/.pv/"
	e := extlinux.Entry{Label: label, Kernel: dir + "pv-kernel.img", Initrd: dir + "pv-initrd.img"}
	e.Append = strings.TrimSpace(s.Arguments + " rdinit=/init pv_rev=" + rev + " pv_try=" + s.Try)
	if s.DeviceTree(rev) {
		e.DeviceTree = dir + "pv-fdt.dtb"
	}
	return e
}

// ParseExtlinux reads the state from the file; DeviceTree is not set.
func ParseExtlinux(text []byte) Extlinux {
	c := extlinux.Parse(text)
	var s Extlinux
	if e := c.Entry(ExtlinuxGood); e != nil {
		var own []string
		for _, word := range strings.Fields(e.Append) {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "pv_rev":
				s.Good = value
			case "pv_try", "rdinit":
			default:
				own = append(own, word)
			}
		}
		s.Arguments = strings.Join(own, " ")
	}
	if e := c.Entry(ExtlinuxTry); e != nil {
		for _, word := range strings.Fields(e.Append) {
			if value, ok := strings.CutPrefix(word, "pv_rev="); ok {
				s.Try = value
			}
		}
		s.Tried = c.Default != ExtlinuxTry
	}
	return s
}

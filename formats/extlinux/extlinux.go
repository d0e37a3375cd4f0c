// Package extlinux writes and reads extlinux.conf, the file from which U-Boot and NVIDIA's
// CBoot start a kernel without a script.
//
// Format: U-Boot, doc/develop/distro.rst and doc/README.pxe: lines of a keyword, in any case,
// and its value. A "label" begins an entry; lines that begin with '#' are comments. Only
// what both loaders know is written.
package extlinux

import (
	"bytes"
	"fmt"
	"strings"
)

// Config is the content of the file.
type Config struct {
	// Default is the label of the entry that is started.
	Default string
	// Timeout is how long the loader waits for a choice, in tenths of a second.
	Timeout int
	Entries []Entry
}

// Entry is a kernel that can be started. Paths begin with '/'.
type Entry struct {
	Label string
	// Kernel and Initrd are paths.
	Kernel, Initrd string
	// DeviceTree is a path, empty for the loader's own.
	DeviceTree string
	// Append is the kernel's command line.
	Append string
}

// Entry returns the entry with a label, nil when there is none.
func (c *Config) Entry(label string) *Entry {
	for i := range c.Entries {
		if c.Entries[i].Label == label {
			return &c.Entries[i]
		}
	}
	return nil
}

// Encode returns the file. Values with line ends, and labels that are empty or have blanks, are errors.
func (c *Config) Encode() ([]byte, error) {
	var b bytes.Buffer
	line := func(indent, word, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s%s %s\n", indent, word, value)
		}
	}
	line("", "DEFAULT", c.Default)
	line("", "TIMEOUT", fmt.Sprint(c.Timeout))
	for _, e := range c.Entries {
		if e.Label == "" || strings.ContainsAny(e.Label, " \t") || strings.ContainsAny(e.Label+e.Kernel+e.Initrd+e.DeviceTree+e.Append, "\r\n") {
			return nil, fmt.Errorf("writing extlinux.conf: entry %q has no label, blanks in it, or line ends", e.Label)
		}
		b.WriteByte('\n')
		line("", "LABEL", e.Label)
		line("  ", "MENU LABEL", e.Label)
		line("  ", "LINUX", e.Kernel)
		line("  ", "INITRD", e.Initrd)
		line("  ", "FDT", e.DeviceTree)
		line("  ", "APPEND", e.Append)
	}
	return b.Bytes(), nil
}

// Parse reads the file. Keywords that it does not know are left out.
func Parse(text []byte) *Config {
	c, e := &Config{}, &Entry{}
	for line := range strings.Lines(string(text)) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		switch strings.ToLower(word) {
		case "default":
			c.Default = value
		case "timeout":
			_, _ = fmt.Sscanf(value, "%d", &c.Timeout) // 0 is none
		case "label":
			c.Entries = append(c.Entries, Entry{Label: value})
			e = &c.Entries[len(c.Entries)-1]
		case "linux", "kernel":
			e.Kernel = value
		case "initrd":
			e.Initrd = value
		case "fdt", "devicetree":
			e.DeviceTree = value
		case "append":
			e.Append = value
		}
	}
	return c
}

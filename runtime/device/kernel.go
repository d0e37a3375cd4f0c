package device

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/modules"
)

// runningKernel is what the kernel says of itself in files: /proc/filesystems, the tables of its modules
// and, where CONFIG_IKCONFIG_PROC is set, its configuration.
type runningKernel struct {
	proc    string // /proc
	modules string // its module directory
}

// maxKernelConfig bounds what is read of the configuration, in bytes; it has some 300 KiB.
const maxKernelConfig = 4 << 20

// features returns which of some features the kernel has: a file system, a module, loadable or built in,
// or an option, NAME being CONFIG_NAME or CONFIG_NAME_FS. all says that it has no others of that name:
// the configuration could be read.
func (k runningKernel) features(names []string) (has map[string]bool, all bool) {
	has = k.drivers(names)
	list, _ := os.ReadFile(filepath.Join(k.proc, "filesystems"))
	for _, name := range names {
		has[name] = has[name] || bytes.Contains(list, []byte("\t"+name+"\n"))
	}
	options, err := k.options(names)
	for name, set := range options {
		has[name] = has[name] || set
	}
	return has, err == nil
}

// drivers returns which of some modules the kernel has.
func (k runningKernel) drivers(names []string) map[string]bool {
	return modules.Known(k.modules, names)
}

// options returns which features are options that are set.
func (k runningKernel) options(names []string) (map[string]bool, error) {
	want := map[string][]string{}
	for _, name := range names {
		option := "CONFIG_" + strings.ReplaceAll(strings.ToUpper(name), "-", "_")
		want[option] = append(want[option], name)
		want[option+"_FS"] = append(want[option+"_FS"], name)
	}
	f, err := os.Open(filepath.Join(k.proc, "config.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	lines := bufio.NewScanner(io.LimitReader(z, maxKernelConfig))
	for lines.Scan() {
		option, value, _ := strings.Cut(lines.Text(), "=")
		for _, name := range want[option] {
			has[name] = has[name] || value == "y" || value == "m"
		}
	}
	return has, lines.Err()
}

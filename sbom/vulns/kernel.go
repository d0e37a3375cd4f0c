package vulns

import (
	"path"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// kernelCode says which code a kernel has, as far as its modules and built-in modules show it.
//
// A file DIR/NAME.c is surely in the kernel when
//
//   - DIR has a module NAME, loadable or built in, as drivers/net/virtio_net.c;
//   - DIR has a module of the directory's own name, as fs/ext4/inode.c and ext4.ko;
//   - it is part of what every kernel has: see [core].
//
// It is surely not in the kernel when it is for another architecture (arch/powerpc/...), or no part of
// it (tools/, samples/, Documentation/). Of all others it is not known: a module is linked of files with
// other names, code that is not modular is in no list, and configurations differ.
type kernelCode struct {
	modules map[string]bool // DIR/NAME, with underscores
	archs   []string        // directories below arch/ that are the kernel's
}

// kernelArchs are the directories below arch/ by the architecture in package URLs.
var kernelArchs = map[string]string{
	"amd64": "x86", "x86_64": "x86", "i386": "x86", "386": "x86", "arm64": "arm64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "arm": "arm",
	"armv7hl": "arm", "mips": "mips", "mipsel": "mips", "mipsle": "mips", "mips64el": "mips", "riscv64": "riscv", "ppc64el": "powerpc", "s390x": "s390",
}

// codeOf reads the paths of a kernel's package.
func codeOf(p sbom.Package) *kernelCode {
	k := &kernelCode{modules: map[string]bool{}}
	for _, file := range p.Paths {
		name, ok := moduleOf(file)
		if !ok {
			continue
		}
		k.modules[name] = true
		if rest, ok := strings.CutPrefix(name, "arch/"); ok {
			arch, _, _ := strings.Cut(rest, "/")
			if !slices.Contains(k.archs, arch) {
				k.archs = append(k.archs, arch)
			}
		}
	}
	u, _ := parsePURL(p.PURL)
	if arch, ok := kernelArchs[u.qualifiers["arch"]]; ok && !slices.Contains(k.archs, arch) {
		k.archs = append(k.archs, arch)
	}
	return k
}

// moduleOf returns directory and name of a module of the kernel's own source:
// lib/modules/RELEASE/kernel/drivers/net/virtio_net.ko.xz is drivers/net/virtio_net.
func moduleOf(file string) (string, bool) {
	if i := strings.Index(file, "lib/modules/"); i >= 0 {
		_, file, _ = strings.Cut(file[i+len("lib/modules/"):], "/")
	}
	file, ok := strings.CutPrefix(file, "kernel/")
	if !ok {
		return "", false
	}
	for _, suffix := range []string{".xz", ".zst", ".gz"} {
		file = strings.TrimSuffix(file, suffix)
	}
	file, ok = strings.CutSuffix(file, ".ko")
	return underscored(file), ok
}

// underscored is a path whose last part is written as the kernel writes names of modules.
func underscored(file string) string {
	dir, name := path.Split(file)
	return dir + strings.ReplaceAll(name, "-", "_")
}

// presence says whether code is in a kernel.
type presence int

const (
	unsure presence = iota
	absent
	present
)

// has says whether the code of a file of the source is in the kernel.
func (k *kernelCode) has(file string) presence {
	file = path.Clean(file)
	top, rest, _ := strings.Cut(file, "/")
	switch top {
	case "tools", "samples", "Documentation":
		return absent
	case "arch":
		if arch, _, _ := strings.Cut(rest, "/"); len(k.archs) > 0 && !slices.Contains(k.archs, arch) {
			return absent
		}
	}
	dir, name := path.Split(file)
	name, isCode := strings.CutSuffix(name, ".c")
	switch {
	case !isCode:
		return unsure
	case k.modules[underscored(dir+name)], k.modules[underscored(dir+path.Base(dir))], core(file):
		return present
	}
	return unsure
}

// coreDirs are directories whose own files are linked into every kernel, but for what few leave out.
var coreDirs = []string{"kernel", "kernel/sched", "kernel/time", "kernel/locking", "kernel/rcu", "mm", "init", "lib", "ipc", "fs", "block", "net", "net/core", "net/ipv4", "security", "drivers/base"}

// core reports whether a file is taken for a part of every kernel. Some of these files are options too;
// they are counted in, since a vulnerability that is shown is the smaller mistake.
func core(file string) bool {
	dir := path.Dir(file)
	if slices.Contains(coreDirs, dir) {
		return true
	}
	rest, ok := strings.CutPrefix(dir, "arch/")
	_, sub, _ := strings.Cut(rest, "/")
	return ok && (sub == "kernel" || sub == "mm" || sub == "lib")
}

// weigh says whether a vulnerability's code is in the kernel: present when that of one file is, absent
// when that of no file is. files are those that decide.
func (k *kernelCode) weigh(files []string) (presence, []string) {
	var in, out []string
	for _, f := range files {
		switch k.has(f) {
		case present:
			in = append(in, f)
		case absent:
			out = append(out, f)
		case unsure:
		}
	}
	switch {
	case len(in) > 0:
		return present, in
	case len(out) == len(files) && len(out) > 0:
		return absent, out
	}
	return unsure, files
}

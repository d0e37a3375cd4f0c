package adapters

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// wks is the layout of a medium in a file for wic, OpenEmbedded's image creator (OE-Core:
// scripts/lib/wic/ksparser.py, wic.help.py). The commands part, bootloader and include are read.
type wks struct {
	name  string
	parts []wksPart
	// table, timeout and arguments are those of the line bootloader.
	table     string
	timeout   int
	arguments []string
	loader    bool
	// notes say which lines were left out.
	notes []string
}

// wksPart is a line part.
type wksPart struct {
	at, mount string
	options   map[string]string
}

// maxWKS bounds a file, in bytes; maxInclude how deep files include others.
const (
	maxWKS     = 256 << 10
	maxInclude = 8
)

// Options of part by what becomes of them: taken, of no meaning for what is written, or left out
// with a note. The value says whether a value belongs to the option.
var (
	wksTaken = map[string]bool{
		"--source": true, "--sourceparams": true, "--fstype": true, "--label": true, "--part-name": true, "--part-type": true, "--system-id": true,
		"--align": true, "--offset": true, "--size": true, "--fixed-size": true, "--active": false, "--no-table": false, "--rootfs-dir": true, "--mbr": false,
	}
	wksSilent = map[string]bool{
		"--ondisk": true, "--ondrive": true, "--use-uuid": false, "--use-label": false, "--no-fstab-update": false, "--fsoptions": true,
		"--fspassno": true, "--extra-space": true, "--overhead-factor": true, "--type": true,
	}
	wksPassed = map[string]bool{
		"--uuid": true, "--fsuuid": true, "--mkfs-extraopts": true, "--exclude-path": true, "--include-path": true, "--change-directory": true,
		"--hidden": false,
	}
	wksBoot = map[string]bool{"--ptable": true, "--timeout": true, "--append": true, "--configfile": true, "--source": true}
)

// readWKS reads a file and those that it includes.
func readWKS(file string) (*wks, error) {
	w := &wks{name: file, table: "msdos"}
	if err := w.read(file, 0); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading a layout")
	}
	if len(w.parts) == 0 {
		return nil, fault.New(fault.BadInput, "%s has no partitions: no line begins with part", file)
	}
	return w, nil
}

func (w *wks) read(file string, depth int) error {
	if depth > maxInclude {
		return fault.New(fault.BadInput, "%s: included more than %d deep", file, maxInclude)
	}
	text, err := bounded.ReadRegular(file, maxWKS)
	if err != nil {
		return err
	}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := w.line(fmt.Sprintf("%s:%d", file, i+1), line, filepath.Dir(file), depth); err != nil {
			return err
		}
	}
	return nil
}

var wksVariable = regexp.MustCompile(`\$\{[A-Za-z0-9_-]+\}`)

func (w *wks) line(at, line, dir string, depth int) error {
	if v := wksVariable.FindString(line); v != "" {
		return fault.New(fault.BadInput, "%s: %s is a variable of the build: give the file in which it is expanded, of which WKS_FULL_PATH is the name", at, v)
	}
	words, err := wksWords(line)
	if err != nil {
		return fault.New(fault.BadInput, "%s: %w", at, err)
	}
	switch words[0] {
	case "part", "partition":
		return w.part(at, words[1:])
	case "bootloader":
		return w.bootloader(at, words[1:])
	case "include":
		if len(words) != 2 {
			return fault.New(fault.BadInput, "%s: include wants one file", at)
		}
		to := words[1]
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		return w.read(to, depth+1)
	}
	w.notes = append(w.notes, fmt.Sprintf("%s: left out: the command %s is not known", at, words[0]))
	return nil
}

// options reads the options of a line; those in known are returned, and the words that are none.
func (w *wks) options(at string, words []string, known ...map[string]bool) (map[string]string, []string, error) {
	out := map[string]string{}
	var plain []string
	for i := 0; i < len(words); i++ {
		name, value, given := strings.Cut(words[i], "=")
		if !strings.HasPrefix(name, "--") {
			plain = append(plain, words[i])
			continue
		}
		j := slices.IndexFunc(known, func(m map[string]bool) bool { _, ok := m[name]; return ok })
		if j < 0 {
			return nil, nil, fault.New(fault.BadInput, "%s: option %s is not known", at, name)
		}
		if known[j][name] && !given {
			if i+1 == len(words) {
				return nil, nil, fault.New(fault.BadInput, "%s: option %s has no value", at, name)
			}
			i++
			value = words[i]
		}
		out[name] = value
	}
	return out, plain, nil
}

func (w *wks) part(at string, words []string) error {
	options, plain, err := w.options(at, words, wksTaken, wksSilent, wksPassed)
	if err != nil {
		return err
	}
	p := wksPart{at: at, options: options}
	if len(plain) > 0 {
		p.mount = plain[0]
	}
	for name := range wksPassed {
		if _, ok := options[name]; ok {
			w.notes = append(w.notes, fmt.Sprintf("%s: option %s is left out", at, name))
		}
	}
	slices.Sort(w.notes)
	w.parts = append(w.parts, p)
	return nil
}

func (w *wks) bootloader(at string, words []string) error {
	if w.loader {
		return fault.New(fault.BadInput, "%s: bootloader is there twice", at)
	}
	w.loader = true
	options, _, err := w.options(at, words, wksBoot)
	if err != nil {
		return err
	}
	w.table = cmp.Or(options["--ptable"], w.table)
	if text := options["--timeout"]; text != "" {
		if w.timeout, err = strconv.Atoi(text); err != nil || w.timeout < 0 {
			return fault.New(fault.BadInput, "%s: --timeout %s is not a number of seconds", at, text)
		}
	}
	for _, word := range strings.Fields(options["--append"]) {
		if name, _, _ := strings.Cut(word, "="); slices.Contains([]string{"root", "rootwait", "rootfstype", "rootdelay", "rw", "ro"}, name) {
			w.notes = append(w.notes, fmt.Sprintf("%s: left out of --append: %s, the initrd mounts the storage", at, word))
			continue
		}
		w.arguments = append(w.arguments, word)
	}
	for _, name := range []string{"--configfile", "--source"} {
		if _, ok := options[name]; ok {
			w.notes = append(w.notes, fmt.Sprintf("%s: option %s is left out: the loader's configuration is made", at, name))
		}
	}
	return nil
}

// wksTables are the partition tables by their names in wic.
var wksTables = map[string]string{"msdos": "mbr", "gpt": "gpt", "gpt-hybrid": "hybrid"}

// layout returns the layout as the image of a target or a list of inputs, with the files that it
// writes outside of file systems, whose paths are as in the file. size is that of the medium in
// MiB; 0 for the sum of its partitions.
func (w *wks) layout(size int) (*targets.Image, []inputs.Blob, []string, error) {
	c := &wksConversion{image: &targets.Image{Table: wksTables[w.table]}, notes: slices.Clone(w.notes)}
	if c.image.Table == "" {
		return nil, nil, nil, fault.New(fault.Unsupported, "%s: partition table %s: want msdos, gpt or gpt-hybrid", w.name, w.table)
	}
	for _, p := range w.parts {
		if err := c.add(p); err != nil {
			return nil, nil, nil, fault.New(fault.BadInput, "%s: %w", p.at, err)
		}
	}
	if c.root == nil {
		return nil, nil, nil, fault.New(fault.BadInput, "%s has no partition for the storage: no line part / or --source rootfs", w.name)
	}
	storage := c.root.Size
	c.root.Size = 0 // the rest of the medium
	c.image.Partitions = append(c.image.Partitions, *c.root)
	if c.image.Size = size; size == 0 {
		if storage == 0 {
			return nil, nil, nil, fault.New(fault.BadInput, "%s: the line for the root file system has no --size: say the size of the medium", w.name)
		}
		c.image.Size = int((c.end+storage+targets.MiB-1)/targets.MiB) + 1 // and the second copy of a GPT
	}
	return c.image, c.blobs, c.notes, nil
}

// wksConversion is a layout in the making.
type wksConversion struct {
	image *targets.Image
	blobs []inputs.Blob
	notes []string
	root  *targets.Partition
	// end is that of what came so far, at least the MiB before the first partition.
	end targets.Size
}

func (c *wksConversion) skip(p wksPart, why string) {
	c.notes = append(c.notes, fmt.Sprintf("%s: left out: %s", p.at, why))
}

// add converts a line. What the layout of a device has no place for is left out.
func (c *wksConversion) add(p wksPart) error {
	source := strings.ReplaceAll(p.options["--source"], "_", "-")
	if _, no := p.options["--no-table"]; no {
		return c.outside(p, source)
	}
	out, err := p.partition()
	if err != nil {
		return err
	}
	switch {
	case p.options["--fstype"] == "swap" || p.mount == "swap":
		c.skip(p, "devices have no swap partition")
	case strings.HasPrefix(source, "bootimg-") || p.mount == "/boot":
		return c.boot(p, out)
	case source == "rawcopy", source == "empty":
		return c.raw(p, out, source)
	case c.root == nil && (p.mount == "/" || source == "rootfs"):
		if fs := p.options["--fstype"]; fs != "" && fs != "ext4" {
			c.notes = append(c.notes, fmt.Sprintf("%s: --fstype %s: the storage has ext4", p.at, fs))
		}
		out.Role, out.Format, out.Name = "root", "ext4", cmp.Or(out.Name, "pvroot")
		c.root = out
	default:
		c.skip(p, "the storage is the only partition for root file systems and data")
	}
	return nil
}

// boot adds the partition of the boot loader. Wic makes it as large as what is in it.
func (c *wksConversion) boot(p wksPart, out *targets.Partition) error {
	out.Role, out.Name = "boot", cmp.Or(out.Name, "boot")
	if out.Size == 0 {
		out.Size = 64 * targets.MiB
		c.notes = append(c.notes, fmt.Sprintf("%s: no --size: 64 MiB", p.at))
	}
	out.Format = "fat32"
	if out.Size < 40*targets.MiB {
		out.Format = "fat16"
	}
	return c.place(p, out)
}

// raw adds a partition without a file system.
func (c *wksConversion) raw(p wksPart, out *targets.Partition, source string) error {
	out.Role, out.Format = "loader", "raw"
	out.Name = cmp.Or(out.Name, fmt.Sprintf("raw%d", len(c.image.Partitions)+1))
	if out.Size == 0 {
		return fault.New(fault.BadInput, "--source %s needs --size or --fixed-size", source)
	}
	if source == "rawcopy" {
		file, err := p.file()
		if err != nil {
			return err
		}
		c.blobs = append(c.blobs, inputs.Blob{Name: out.Name, Path: file, Partition: out.Name})
	}
	return c.place(p, out)
}

// place puts a partition behind those that were before it.
func (c *wksConversion) place(p wksPart, out *targets.Partition) error {
	if c.root != nil {
		c.skip(p, "it is behind the storage, which is the last partition")
		if i := slices.IndexFunc(c.blobs, func(b inputs.Blob) bool { return b.Partition == out.Name }); i >= 0 {
			c.blobs = slices.Delete(c.blobs, i, i+1)
		}
		return nil
	}
	start := max(c.end, targets.MiB)
	if out.Align > 0 {
		start = (start + out.Align - 1) / out.Align * out.Align
	}
	c.end = max(start, out.Start) + out.Size
	c.image.Partitions = append(c.image.Partitions, *out)
	return nil
}

// outside adds a file that is written where no partition is.
func (c *wksConversion) outside(p wksPart, source string) error {
	if source != "rawcopy" {
		c.skip(p, "--no-table has a meaning for --source rawcopy only")
		return nil
	}
	file, err := p.file()
	if err != nil {
		return err
	}
	offset, err := wksSize(p.options["--offset"], "K")
	if err != nil {
		return err
	}
	if offset == 0 {
		align, err := wksSize(p.options["--align"], "K")
		if err != nil || align == 0 {
			return fault.New(fault.BadInput, "--no-table needs --offset or --align: where it is written")
		}
		offset = align
	}
	size, err := wksSize(cmp.Or(p.options["--fixed-size"], p.options["--size"]), "M")
	if err != nil {
		return err
	}
	if size == 0 {
		if offset >= targets.MiB {
			return fault.New(fault.BadInput, "--no-table behind the first MiB needs --size or --fixed-size")
		}
		size = targets.MiB - offset // up to the first partition
	}
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	c.blobs = append(c.blobs, inputs.Blob{Name: name, Path: file, Offset: &offset, Max: size})
	if offset+size > targets.MiB {
		c.end = max(c.end, offset+size)
	}
	return nil
}

// file returns the file of --sourceparams.
func (p *wksPart) file() (string, error) {
	for _, one := range strings.Split(p.options["--sourceparams"], ",") {
		if name, value, _ := strings.Cut(one, "="); name == "file" && value != "" {
			return value, nil
		}
	}
	return "", fault.New(fault.BadInput, `--source rawcopy needs --sourceparams="file=NAME"`)
}

// partition returns what all kinds of partitions have in common.
func (p *wksPart) partition() (*targets.Partition, error) {
	out := &targets.Partition{Name: cmp.Or(p.options["--part-name"], p.options["--label"])}
	out.Type = strings.ToLower(cmp.Or(p.options["--part-type"], strings.TrimPrefix(strings.ToLower(p.options["--system-id"]), "0x")))
	var err error
	if out.Align, err = wksSize(p.options["--align"], "K"); err != nil {
		return nil, err
	}
	if out.Start, err = wksSize(p.options["--offset"], "K"); err != nil {
		return nil, err
	}
	out.Size, err = wksSize(cmp.Or(p.options["--fixed-size"], p.options["--size"]), "M")
	if _, active := p.options["--active"]; active {
		out.Flags = []string{"bootable"}
	}
	if _, mbr := p.options["--mbr"]; mbr {
		out.Flags = append(out.Flags, "mbr")
	}
	return out, err
}

var wksSizeForm = regexp.MustCompile(`^([0-9]{1,12})([sSkKMG]?)$`)

// wksSize reads a size; unit is that of a bare number.
func wksSize(text, unit string) (targets.Size, error) {
	if text == "" {
		return 0, nil
	}
	m := wksSizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fault.New(fault.BadInput, "size %q: want a number with K, M or G", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, err
	}
	of := map[string]targets.Size{"S": targets.Sector, "K": targets.KiB, "M": targets.MiB, "G": 1 << 30}[strings.ToUpper(cmp.Or(m[2], unit))]
	if n > int64(1<<50/of) {
		return 0, fault.New(fault.BadInput, "size %q is too large", text)
	}
	return targets.Size(n) * of, nil
}

// wksWords splits a line as a shell does: at blanks outside of quotes.
func wksWords(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	begun, quote := false, rune(0)
	escaped := false
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, begun = c, true
		case c == ' ' || c == '\t':
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, fault.New(fault.BadInput, "a quote is not closed")
	}
	if begun {
		out = append(out, word.String())
	}
	return out, nil
}

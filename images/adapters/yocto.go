package adapters

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/deploydir"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/targets"
)

// yoctoSpec is the value of "#spec" in a [yoctoList].
const yoctoSpec = "pantavisor-yocto@1"

// yoctoList is what the classes of the layer meta-pantavisor-go write: the names of files that
// their dependencies have deployed, and values of variables as they are. Files are absolute
// paths, or names in the deploy directory.
type yoctoList struct {
	// Spec is the version of the form: pantavisor-yocto@1.
	Spec string `yaml:"#spec" json:"#spec" jsonschema:"enum=pantavisor-yocto@1"`
	// Target is the name of the firmware, PV_BUNDLE_NAME.
	Target string `yaml:"target" json:"target"`
	// Release is its version, PV.
	Release string `yaml:"release,omitempty" json:"release,omitempty"`
	// Epoch is SOURCE_DATE_EPOCH.
	Epoch int64 `yaml:"epoch" json:"epoch" jsonschema:"minimum=0,maximum=4294967295"`
	// Arch is TARGET_ARCH, Tune is TUNE_FEATURES.
	Arch string `yaml:"arch" json:"arch"`
	Tune string `yaml:"tune,omitempty" json:"tune,omitempty"`
	// Machine is MACHINE, the name of the board.
	Machine string `yaml:"machine" json:"machine"`
	// Deploy is DEPLOY_DIR_IMAGE.
	Deploy string `yaml:"deploy" json:"deploy"`
	// Outputs are those of the list of inputs, PV_BUNDLE_OUTPUTS.
	Outputs []string `yaml:"outputs" json:"outputs"`
	// Features is PANTAVISOR_FEATURES.
	Features string `yaml:"features,omitempty" json:"features,omitempty"`
	// With is a partial list with what the build does not know, PV_BUNDLE_WITH.
	With string `yaml:"with,omitempty" json:"with,omitempty"`
	// Layout is a wks file whose layout is imported when With has none, PV_BUNDLE_WKS.
	Layout string `yaml:"layout,omitempty" json:"layout,omitempty"`
	// Size is that of the medium in MiB for such a layout, PV_BUNDLE_SIZE. Default: the sum of its
	// partitions.
	Size int `yaml:"size,omitempty" json:"size,omitempty" jsonschema:"minimum=0,maximum=1048576"`
	// Runtime is the device binary.
	Runtime string `yaml:"runtime,omitempty" json:"runtime,omitempty"`
	// Config are the files of configuration that are taken when With has none.
	Config *inputs.Config `yaml:"config,omitempty" json:"config,omitempty"`
	// Kernel is the kernel of the machine.
	Kernel *yoctoKernel `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// Containers are made from root file systems of images.
	Containers []yoctoContainer `yaml:"containers,omitempty" json:"containers,omitempty"`
	// Exports are finished parts, NAME.pvrexport.tgz.
	Exports []string `yaml:"exports,omitempty" json:"exports,omitempty"`
	// SBOM are documents of the build.
	SBOM []string `yaml:"sbom,omitempty" json:"sbom,omitempty"`
	// Key is the file with the key that signs, or the PKCS #11 URI of one in a token,
	// PV_SIGNING_KEY. Command signs in its place,
	// PV_SIGNING_COMMAND, of which Input is PV_SIGNING_INPUT. Chain is PV_SIGNING_CHAIN.
	Key     string `yaml:"key,omitempty" json:"key,omitempty"`
	Command string `yaml:"command,omitempty" json:"command,omitempty"`
	Input   string `yaml:"input,omitempty" json:"input,omitempty"`
	Chain   string `yaml:"chain,omitempty" json:"chain,omitempty"`
}

// yoctoKernel is what the kernel's recipe deploys.
type yoctoKernel struct {
	// Image is the kernel, Modules the archive of its modules.
	Image   string `yaml:"image" json:"image"`
	Modules string `yaml:"modules,omitempty" json:"modules,omitempty"`
	// Release is that of a kernel without modules, KERNEL_VERSION.
	Release string `yaml:"release,omitempty" json:"release,omitempty"`
	// DeviceTrees is KERNEL_DEVICETREE.
	DeviceTrees string `yaml:"device_trees,omitempty" json:"device_trees,omitempty"`
	// Subdir is KERNEL_DEPLOYSUBDIR, where the device trees are.
	Subdir string `yaml:"subdir,omitempty" json:"subdir,omitempty"`
	// Initial is PV_INITIAL_DTB, the one device tree of the revision.
	Initial string `yaml:"initial,omitempty" json:"initial,omitempty"`
	// Auto is PV_UBOOT_AUTOFDT: the revision has all device trees, and U-Boot picks. Flat is
	// PV_UBOOT_FLATFDT: without the directories of vendors.
	Auto string `yaml:"auto,omitempty" json:"auto,omitempty"`
	Flat string `yaml:"flat,omitempty" json:"flat,omitempty"`
	// Arguments is PV_BOOT_OEMARGS.
	Arguments string `yaml:"arguments,omitempty" json:"arguments,omitempty"`
	// Early is PV_EARLY_MODULES, the modules for the initrd.
	Early string `yaml:"early,omitempty" json:"early,omitempty"`
}

// yoctoContainer is a container from the root file system of an image.
type yoctoContainer struct {
	// Name is PN of the image's recipe.
	Name string `yaml:"name" json:"name"`
	// Root is its root file system, Type the type in IMAGE_FSTYPES that it has.
	Root string `yaml:"root" json:"root"`
	Type string `yaml:"type" json:"type"`
	// Group is PVR_APP_ADD_GROUP, Roles is PVR_APP_ADD_ROLES, Add is PVR_APP_ADD_EXTRA_ARGS.
	Group string `yaml:"group,omitempty" json:"group,omitempty"`
	Roles string `yaml:"roles,omitempty" json:"roles,omitempty"`
	Add   string `yaml:"add,omitempty" json:"add,omitempty"`
	// Format is PVR_FORMAT_OPTS, words of mksquashfs.
	Format string `yaml:"format,omitempty" json:"format,omitempty"`
	// Args, Config, Services, MDEV and Network are the files PN.args.json and so on.
	Args     string `yaml:"args,omitempty" json:"args,omitempty"`
	Config   string `yaml:"config,omitempty" json:"config,omitempty"`
	Services string `yaml:"services,omitempty" json:"services,omitempty"`
	MDEV     string `yaml:"mdev,omitempty" json:"mdev,omitempty"`
	Network  string `yaml:"network,omitempty" json:"network,omitempty"`
	// Overlay is the directory that PV_CONFIG_OVERLAY_DIR names.
	Overlay string `yaml:"overlay,omitempty" json:"overlay,omitempty"`
}

var yoctoKind = yamlfile.Kind{Name: "a list of a Yocto build", Limit: maxList}

// Made is a list that an adapter has made.
type Made struct {
	List *inputs.List
	// Notes say what was left out, each in a line.
	Notes []string
}

func (m *Made) note(format string, args ...any) {
	m.Notes = append(m.Notes, fmt.Sprintf(format, args...))
}

// ReadYocto reads the list that a class has written and makes the list of inputs.
func ReadYocto(file string) (*Made, error) {
	text, err := bounded.ReadRegular(file, maxList)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the list of the Yocto build")
	}
	y := &yoctoList{}
	f, _ := yamlfile.Read(file, yoctoKind, text, y)
	if err := f.Err(); err != nil {
		return nil, err
	}
	return y.made(file)
}

// made makes the list of inputs.
func (y *yoctoList) made(name string) (*Made, error) {
	m := &Made{List: &inputs.List{Spec: inputs.Spec}}
	more := map[string]inputs.Container{}
	if y.With != "" {
		var err error
		if m.List, more, err = readPartial(y.With); err != nil {
			return nil, err
		}
		m.List.Paths(y.deployed)
		for name, c := range more {
			one := inputs.List{Containers: []inputs.Container{c}}
			one.Paths(y.deployed)
			more[name] = one.Containers[0]
		}
	}
	if err := y.add(m, more); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", name)
	}
	for c := range more {
		return nil, fault.New(fault.BadInput, "%s: container %s has no root, and the build makes none with that name", y.With, c)
	}
	return m, m.List.Check("the list of inputs of " + y.Target)
}

func (y *yoctoList) add(m *Made, more map[string]inputs.Container) error {
	l := m.List
	l.Target, l.Release = cmp.Or(l.Target, y.Target), cmp.Or(l.Release, y.Release)
	l.Epoch = cmp.Or(l.Epoch, y.Epoch)
	if len(l.Outputs) == 0 {
		l.Outputs = y.Outputs
	}
	if l.Arch == (targets.Arch{}) {
		var err error
		if l.Arch, err = yoctoArch(y.Arch, y.Tune); err != nil {
			return err
		}
	}
	if l.Runtime == nil && y.Runtime != "" {
		l.Runtime = &inputs.File{}
		if err := y.place(&l.Runtime.Path, y.Runtime); err != nil {
			return err
		}
	}
	if l.Config.Runtime.Path == "" && y.Config != nil {
		l.Config = *y.Config
	}
	for _, step := range []func(*Made) error{y.features, y.kernel, y.layout, y.finished, y.signing} {
		if err := step(m); err != nil {
			return err
		}
	}
	for _, c := range y.Containers {
		if err := y.container(l, c, more); err != nil {
			return fault.Wrap(fault.BadInput, err, "container %s", c.Name)
		}
	}
	return nil
}

// place returns where a file is: names are those of the deploy directory.
func (y *yoctoList) place(to *string, name string) error {
	if filepath.IsAbs(name) {
		*to = filepath.Clean(name)
		return nil
	}
	if !fs.ValidPath(name) {
		return fault.New(fault.BadInput, "%q is neither an absolute path nor the name of a file in %s", name, y.Deploy)
	}
	*to = filepath.Join(y.Deploy, name)
	return nil
}

// deployed replaces a path of the partial list that begins with deploy: by its place in the
// deploy directory, where boot loaders are.
func (y *yoctoList) deployed(p *string) {
	if _, name, ok := strings.Cut(*p, "/"+deployPrefix); ok {
		*p = filepath.Join(y.Deploy, name)
	}
}

// deployPrefix begins paths in a partial list that are names in the deploy directory.
const deployPrefix = "deploy:"

// features translates PANTAVISOR_FEATURES. Most of them chose parts of the former runtime at its
// compilation; ours has them.
func (y *yoctoList) features(m *Made) error {
	for _, name := range strings.Fields(y.Features) {
		switch name {
		case "squash-lz4":
			return fault.New(fault.Unsupported, "PANTAVISOR_FEATURES: squash-lz4: containers are compressed with xz or zstd; use squash-zstd for fast ones")
		case "squash-zstd", "dm-crypt", "dm-verity", "autogrow", "pvcontrol", "xconnect", "container-mdev", "debug", "console-logging", "appengine":
		case "rpi-tryboot":
			if b := m.List.Bootloader; b == nil || b.Type != "rpiab" {
				return fault.New(fault.BadInput, "PANTAVISOR_FEATURES: rpi-tryboot wants bootloader.type: rpiab in the partial list, PV_BUNDLE_WITH")
			}
		default:
			m.note("PANTAVISOR_FEATURES: %s has no meaning here", name)
		}
	}
	return nil
}

func (y *yoctoList) kernel(m *Made) error {
	if y.Kernel == nil {
		if m.List.Kernel != nil {
			return fault.New(fault.BadInput, "the partial list says more of a kernel, and the build has none")
		}
		return nil
	}
	given := m.List.Kernel
	if given == nil {
		given = &inputs.Kernel{}
		m.List.Kernel = given
	}
	if err := y.place(&given.Image.Path, y.Kernel.Image); err != nil {
		return err
	}
	if y.Kernel.Modules != "" {
		given.Modules = &inputs.Tree{Form: "tar"}
		if err := y.place(&given.Modules.Path, y.Kernel.Modules); err != nil {
			return err
		}
	}
	if y.Kernel.Modules == "" {
		given.Release = cmp.Or(given.Release, y.Kernel.Release)
	}
	given.Arguments = append(given.Arguments, strings.Fields(y.Kernel.Arguments)...)
	given.EarlyModules = append(given.EarlyModules, strings.Fields(y.Kernel.Early)...)
	if m.List.Board == nil {
		m.List.Board = &inputs.Board{Name: y.Machine}
	}
	if len(given.DeviceTrees) > 0 {
		return nil // the partial list has chosen
	}
	trees, err := y.Kernel.trees(m)
	if err != nil {
		return err
	}
	for _, t := range trees {
		if err := y.place(&t.Path, path.Join(y.Kernel.Subdir, path.Base(t.Path))); err != nil {
			return err
		}
		given.DeviceTrees = append(given.DeviceTrees, t)
	}
	return nil
}

// trees chooses the device trees as the former layer does: PV_INITIAL_DTB alone, or with
// PV_UBOOT_AUTOFDT all that the machine has. Their paths are names in the deploy directory.
func (k *yoctoKernel) trees(m *Made) ([]inputs.Named, error) {
	if k.Initial != "" && k.Auto != "" {
		return nil, fault.New(fault.BadInput, "PV_INITIAL_DTB and PV_UBOOT_AUTOFDT exclude each other: the first one names the device tree, with the other one U-Boot does")
	}
	if k.Initial != "" {
		return []inputs.Named{{Name: k.Initial, Path: k.Initial}}, nil
	}
	var all []inputs.Named
	for _, name := range strings.Fields(k.DeviceTrees) {
		if path.Ext(name) == ".dtbo" {
			m.note("KERNEL_DEVICETREE: overlay %s is left out: name those that are to be applied under kernel.overlays", name)
			continue
		}
		t := inputs.Named{Name: name, Path: name}
		if k.Flat != "" {
			t.Name = path.Base(name)
		}
		all = append(all, t)
	}
	if k.Auto == "" && len(all) > 1 {
		return nil, fault.New(fault.BadInput, "KERNEL_DEVICETREE has %d device trees: name the one of the revision in PV_INITIAL_DTB, or set PV_UBOOT_AUTOFDT = \"1\" to have all of them and let U-Boot pick", len(all))
	}
	return all, nil
}

// layout imports the layout of a wks file when the partial list has none.
func (y *yoctoList) layout(m *Made) error {
	if y.Layout == "" || len(m.List.Images) > 0 {
		return nil
	}
	w, err := readWKS(y.Layout)
	if err != nil {
		return err
	}
	image, blobs, notes, err := w.layout(y.Size)
	if err != nil {
		return err
	}
	m.Notes = append(m.Notes, notes...)
	m.List.Images = targets.Images{*image}
	b := m.List.Bootloader
	if b == nil {
		return fault.New(fault.BadInput, "%s says where the boot loader is, not which one: name it in bootloader.type of the partial list", y.Layout)
	}
	for _, blob := range blobs {
		if err := y.place(&blob.Path, blob.Path); err != nil {
			return err
		}
		b.Blobs = append(b.Blobs, blob)
	}
	if b.Type == "grub" {
		b.Timeout = cmp.Or(b.Timeout, w.timeout)
	}
	if k := m.List.Kernel; k != nil && b.Type != "" {
		k.Arguments = append(k.Arguments, w.arguments...)
	} else if len(w.arguments) > 0 {
		m.note("%s: --append is left out: it is for a loader whose script is made", y.Layout)
	}
	return nil
}

// finished adds exports and documents.
func (y *yoctoList) finished(m *Made) error {
	for _, name := range y.Exports {
		var f inputs.File
		if err := y.place(&f.Path, name); err != nil {
			return err
		}
		m.List.Exports = append(m.List.Exports, f)
	}
	for _, name := range y.SBOM {
		n := inputs.Named{Name: path.Base(name)}
		if err := y.place(&n.Path, name); err != nil {
			return err
		}
		m.List.SBOM = append(m.List.SBOM, n)
	}
	return nil
}

func (y *yoctoList) signing(m *Made) error {
	if y.Key == "" && y.Command == "" {
		return nil
	}
	if m.List.Signing != nil {
		return fault.New(fault.BadInput, "PV_SIGNING_KEY or PV_SIGNING_COMMAND, and signing in the partial list: want one of them")
	}
	s := &inputs.Signing{Command: y.Command, Input: y.Input}
	switch {
	case strings.HasPrefix(y.Key, tokenPrefix):
		if y.Command != "" {
			return fault.New(fault.BadInput, "PV_SIGNING_KEY and PV_SIGNING_COMMAND: want one of them")
		}
		k, err := parseToken(y.Key)
		if err == nil {
			var in sign.Input
			s.Command, in, err = k.command(y.Chain)
			s.Input = string(in)
		}
		if err != nil {
			return fault.Wrap(fault.Of(err), err, "PV_SIGNING_KEY, a PKCS #11 URI")
		}
	case y.Key != "":
		s.Key = &inputs.File{Path: y.Key}
	}
	if y.Chain != "" {
		s.Chain = &inputs.File{Path: y.Chain}
	}
	m.List.Signing = s
	return nil
}

// container adds a container; what the partial list says of it comes last.
func (y *yoctoList) container(l *inputs.List, c yoctoContainer, more map[string]inputs.Container) error {
	out := more[c.Name]
	delete(more, c.Name)
	out.Name = c.Name
	form, err := deploydir.FormOf(c.Type)
	if err != nil {
		return err
	}
	out.Root.Form = string(form)
	if err := y.place(&out.Root.Path, c.Root); err != nil {
		return err
	}
	if form != deploydir.Squashfs {
		out.Exclude = append(out.Exclude, kernelFiles...)
		if err := formatOptions(&out, c.Format); err != nil {
			return err
		}
	}
	if err := c.arguments(&out); err != nil {
		return err
	}
	if err := addOptions(&out, c.Add); err != nil {
		return err
	}
	for _, f := range []struct {
		from string
		to   **inputs.File
	}{{c.Config, &out.Config}, {c.Services, &out.Services}, {c.MDEV, &out.MDEV}, {c.Network, &out.Network}} {
		if f.from != "" && *f.to == nil {
			*f.to = &inputs.File{Path: f.from}
		}
	}
	if c.Overlay != "" && out.Overlay == nil {
		out.Overlay = &inputs.Directory{Path: c.Overlay}
	}
	l.Containers = append(l.Containers, out)
	return nil
}

// kernelFiles are in an image's root file system for the machine's kernel, and the BSP has them.
var kernelFiles = []string{"lib/modules", "lib/firmware"}

// arguments merges PN.args.json, PVR_APP_ADD_GROUP and PVR_APP_ADD_ROLES.
func (c *yoctoContainer) arguments(out *inputs.Container) error {
	args := map[string]any{}
	if c.Args != "" {
		text, err := bounded.ReadRegular(c.Args, maxList)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "reading its arguments")
		}
		if err := json.Unmarshal(text, &args); err != nil {
			return fault.Wrap(fault.BadInput, err, "reading its arguments, %s", c.Args)
		}
	}
	if c.Group != "" {
		args["PV_GROUP"] = c.Group
	}
	if roles := strings.Fields(c.Roles); len(roles) > 0 {
		args["PV_ROLES"] = roles
	}
	for name, v := range out.Args { // of the partial list
		args[name] = v
	}
	if out.Args = args; len(args) == 0 {
		out.Args = nil
	}
	return nil
}

var blockForm = regexp.MustCompile(`^([0-9]+)([KkMm]?)$`)

// formatOptions translates PVR_FORMAT_OPTS, words of mksquashfs.
func formatOptions(out *inputs.Container, text string) error {
	words := strings.Fields(text)
	for i := 0; i < len(words); i++ {
		word, value := words[i], ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch word {
		case "-noappend", "-no-progress", "-quiet", "-no-recovery", "-no-exports":
			continue
		case "-e":
			out.Exclude = append(out.Exclude, words[i+1:]...)
			return nil
		case "-comp":
			if !slices.Contains([]string{"gzip", "xz", "zstd"}, value) {
				return fault.New(fault.Unsupported, "PVR_FORMAT_OPTS: -comp %s: want gzip, xz or zstd", value)
			}
			out.Compression = cmp.Or(out.Compression, value)
		case "-b":
			if out.Block == 0 && out.Block.UnmarshalText([]byte(blockForm.ReplaceAllStringFunc(value, blockSize))) != nil {
				return fault.New(fault.BadInput, "PVR_FORMAT_OPTS: -b %s: want a size as 256K", value)
			}
		case "-Xcompression-level", "-processors": // how hard and how fast, not what
		default:
			return fault.New(fault.Unsupported, "PVR_FORMAT_OPTS: %s is not known here; -comp, -b, -Xcompression-level, -processors and -e are", word)
		}
		i++
	}
	return nil
}

// blockSize writes a size as targets do.
func blockSize(text string) string {
	m := blockForm.FindStringSubmatch(text)
	return m[1] + map[string]string{"": "B", "k": "KiB", "m": "MiB"}[strings.ToLower(m[2])]
}

// addOptions translates PVR_APP_ADD_EXTRA_ARGS, options of pvr app add.
func addOptions(out *inputs.Container, text string) error {
	words := strings.Fields(text)
	for i := 0; i < len(words); i++ {
		name, value, given := strings.Cut(words[i], "=")
		if !given {
			if i+1 == len(words) {
				return fault.New(fault.BadInput, "PVR_APP_ADD_EXTRA_ARGS: %s has no value", name)
			}
			i++
			value = words[i]
		}
		if err := addOption(out, name, value); err != nil {
			return err
		}
	}
	return nil
}

// texts are options whose value is an argument of the container.
var texts = map[string]string{"--group": "PV_GROUP", "--restart-policy": "PV_RESTART_POLICY", "--status-goal": "PV_STATUS_GOAL"}

func addOption(out *inputs.Container, name, value string) error {
	set := func(arg, value string) {
		if out.Args == nil {
			out.Args = map[string]any{}
		}
		out.Args[arg] = value
	}
	switch {
	case texts[name] != "":
		set(texts[name], value)
	case name == "--volume":
		at := strings.LastIndex(value, ":")
		if at <= 0 {
			return fault.New(fault.BadInput, "PVR_APP_ADD_EXTRA_ARGS: --volume %s: want PATH:POLICY", value)
		}
		if out.Persistence == nil {
			out.Persistence = map[string]string{}
		}
		out.Persistence[value[:at]] = value[at+1:]
	case name == "--arg":
		arg, v, _ := strings.Cut(value, "=")
		set(arg, v)
	default:
		return fault.New(fault.Unsupported, "PVR_APP_ADD_EXTRA_ARGS: %s is not known here; --volume, --arg, --group, --restart-policy and --status-goal are", name)
	}
	return nil
}

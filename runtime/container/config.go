package container

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/lxc"
)

// Bounds of a configuration file.
const (
	maxLine  = 64 << 10
	maxLines = 4096
)

// Namespaces as bits of clone(2), by the names of lxc.namespace.*.
var namespaces = []word[uintptr]{
	{"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC},
	{"net", unix.CLONE_NEWNET}, {"cgroup", unix.CLONE_NEWCGROUP}, {"user", unix.CLONE_NEWUSER}, {"time", unix.CLONE_NEWTIME},
}

// cloned are the namespaces that a container gets by default.
const cloned = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// Setting is a key with its value, for the key families without a fixed list of names:
// control groups, limits, kernel parameters.
type Setting struct {
	Key   string
	Value string
}

// Net is one lxc.net.N.
type Net struct {
	Index    int
	Type     string // empty, none, veth, macvlan, phys, ...
	Settings []Setting
}

// Hook is a program of lxc.hook.*.
type Hook struct {
	Event   string // "mount", "start", ...
	Command string
}

// Config is a container's configuration in LXC's format (lxc.container.conf(5)).
// The zero value is not usable; see [Parse].
type Config struct {
	Root       Root
	Init       []string // program and arguments; empty: /sbin/init
	Cwd        string   // "" is /
	Env        []string // NAME=value, in order
	Namespaces uintptr  // bits of clone(2) that the container gets of its own
	Proc       AutoMount
	Sys        AutoMount
	Cgroup     AutoMount
	Mounts     []Mount
	Hostname   string
	CapKeep    []string // names without "cap_"; nil: CapDrop counts
	CapDrop    []string // names without "cap_"
	dropReset  bool
	NoNewPrivs *bool // nil: the launcher decides
	SameKeys   bool  // no session keyring of its own
	UID, GID   uint32
	Groups     []uint32
	Autodev    bool
	PtyMax     int
	TtyMax     int
	Console    bool
	HaltSignal unix.Signal // 0: chosen by what init catches
	Limits     []Setting   // prlimit: nofile = 1024:4096
	Sysctls    []Setting
	Cgroup1    []Setting // lxc.cgroup.*, names without the prefix
	Cgroup2    []Setting // lxc.cgroup2.*
	Nets       []Net
	Hooks      []Hook
	// HookVersion is how hooks are told about the container: 0 by arguments, 1 by
	// variables of the environment.
	HookVersion int
	Process     []Setting // lxc.proc.*, files of init in /proc
	Seccomp     string
	AppArmor    string
	LogFile     string
	LogLevel    string
	File        string // where it was read from, "" when unknown
}

// Note is a warning about a configuration: an unknown key, or a known key whose value
// has no effect here.
type Note struct {
	Key  string
	Text string
}

func (n Note) String() string { return n.Key + ": " + n.Text }

// parser reads a configuration line by line and collects notes and errors.
type parser struct {
	cfg   *Config
	notes []Note
	errs  []error
	told  map[string]bool
	key   string // of the current line
}

// Parse reads a configuration. Unknown keys are noted once each and otherwise
// ignored; the error joins every value that cannot be used, with its line.
func Parse(r io.Reader) (*Config, []Note, error) {
	p := parser{told: map[string]bool{}, cfg: &Config{
		Namespaces: cloned, Autodev: true, PtyMax: 1024, Console: true,
	}}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	n := 0
	for sc.Scan() {
		if n++; n > maxLines {
			return nil, nil, fmt.Errorf("reading the configuration: more than %d lines", maxLines)
		}
		if err := p.line(sc.Text()); err != nil {
			p.errs = append(p.errs, fmt.Errorf("line %d: %w", n, err))
		}
	}
	if err := sc.Err(); err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: line %d: %w", n+1, err)
	}
	_, notes, err := p.cfg.interfaces("")
	if err := errors.Join(append(p.errs, p.cfg.Root.checkOptions(), err)...); err != nil {
		return nil, p.notes, err
	}
	for _, n := range notes {
		p.note(n.Key, n.Text)
	}
	return p.cfg, p.notes, nil
}

// ParseFile is [Parse] of a file.
func ParseFile(path string) (*Config, []Note, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the container's configuration: %w", err)
	}
	defer f.Close()
	c, notes, err := Parse(f)
	if err != nil {
		return nil, notes, fmt.Errorf("reading %s: %w", path, err)
	}
	c.File = path
	return c, notes, nil
}

func (p *parser) line(text string) error {
	text = strings.Trim(text, lxc.Blanks)
	if text == "" || text[0] == '#' {
		return nil
	}
	if strings.IndexByte(text, 0) >= 0 {
		return errors.New("a NUL byte")
	}
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("%q is not an assignment", clip(text))
	}
	key, value = strings.Trim(key, lxc.Blanks), strings.Trim(value, lxc.Blanks)
	p.key = key
	if set, ok := find(keys, key); ok {
		return wrapKey(key, set(p, value))
	}
	for _, f := range families {
		if rest, ok := strings.CutPrefix(key, f.prefix); ok && rest != "" {
			return wrapKey(key, f.set(p, rest, value))
		}
	}
	p.note(key, "unknown key, ignored")
	return nil
}

func wrapKey(key string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// note keeps the first note of each key, up to maxNotes.
func (p *parser) note(key, text string) {
	key = clip(key)
	if p.told[key] || len(p.notes) >= 64 {
		return
	}
	p.told[key] = true
	p.notes = append(p.notes, Note{key, text})
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// setter stores the value of one key.
type setter func(p *parser, value string) error

// family is a group of keys with a common prefix.
type family struct {
	prefix string
	set    func(p *parser, rest, value string) error
}

var keys = []word[setter]{
	{"lxc.rootfs.path", setRoot},
	{"lxc.rootfs.options", func(p *parser, v string) error { p.cfg.Root.Options = v; return nil }},
	{"lxc.init.cmd", setInit},
	{"lxc.execute.cmd", func(p *parser, v string) error { return p.ignore(v, "only lxc.init.cmd is run") }},
	{"lxc.init.cwd", setCwd},
	{"lxc.init.uid", func(p *parser, v string) error { return setID(&p.cfg.UID, v) }},
	{"lxc.init.gid", func(p *parser, v string) error { return setID(&p.cfg.GID, v) }},
	{"lxc.init.groups", setGroups},
	{"lxc.environment", setEnv},
	{lxc.KeyCommand, setCommand},
	{lxc.KeyDirectory, exact(setCwd)},
	{lxc.KeyEnvironment, exact(setEnv)},
	{"lxc.namespace.keep", setKeep},
	{"lxc.namespace.clone", setClone},
	{"lxc.mount.auto", setAuto},
	{"lxc.mount.entry", setMount},
	{"lxc.mount.fstab", func(p *parser, v string) error {
		return p.ignore(v, "a table of mounts on the device is not read; use lxc.mount.entry")
	}},
	{"lxc.uts.name", setHostname},
	{"lxc.cap.keep", setCapKeep},
	{"lxc.cap.drop", setCapDrop},
	{"lxc.no_new_privs", setNoNewPrivs},
	{"lxc.tty.max", func(p *parser, v string) error { return setCount(&p.cfg.TtyMax, v) }},
	{"lxc.pty.max", func(p *parser, v string) error { return setCount(&p.cfg.PtyMax, v) }},
	{"lxc.autodev", func(p *parser, v string) error { return setFlag(&p.cfg.Autodev, v) }},
	{"lxc.console.path", func(p *parser, v string) error { p.cfg.Console = v != "none"; return nil }},
	{"lxc.signal.halt", setHalt},
	{"lxc.seccomp.profile", func(p *parser, v string) error { p.cfg.Seccomp = v; return nil }},
	{"lxc.apparmor.profile", func(p *parser, v string) error { p.cfg.AppArmor = v; return nil }},
	{"lxc.log.file", func(p *parser, v string) error { p.cfg.LogFile = v; return nil }},
	{"lxc.log.level", func(p *parser, v string) error { p.cfg.LogLevel = v; return nil }},
	{"lxc.include", func(p *parser, v string) error { return p.ignore(v, "other files are not read; put their lines here") }},
	{"lxc.arch", known},
	{"lxc.ephemeral", known},
	{"lxc.monitor.unshare", known},
	{"lxc.rootfs.mount", known},
	{"lxc.rootfs.managed", known},
	{"lxc.tty.dir", known},
	{"lxc.group", known},
	{"lxc.start.auto", known},
	{"lxc.start.delay", known},
	{"lxc.start.order", known},
	{"lxc.console.logfile", known},
	{"lxc.console.size", known},
	{"lxc.console.buffer.size", known},
	{"lxc.console.rotate", known},
	{"lxc.log.syslog", known},
	{"lxc.signal.reboot", known},
	{"lxc.signal.stop", known},
	{"lxc.hook.version", setHookVersion},
	{"lxc.autodev.tmpfs.size", known},
	{"lxc.cgroup.relative", known},
	{"lxc.cgroup.dir", func(p *parser, v string) error { return p.ignore(v, "the runtime names the control group") }},
	{"lxc.keyring.session", setKeyring},
	{"lxc.apparmor.nesting", known},
	{"lxc.apparmor.raw", known},
	{"lxc.selinux.context", known},
	{"lxc.seccomp.allow_nesting", known},
	{"lxc.idmap", func(_ *parser, v string) error { return refuse(v, "user namespaces are not supported; remove it") }},
	{"lxc.cgroup.pattern", known},
}

var families = []family{
	{"lxc.cgroup2.", func(p *parser, k, v string) error { return addCgroup(&p.cfg.Cgroup2, k, v) }},
	{"lxc.cgroup.dir.", func(p *parser, k, v string) error { return nil }},
	{"lxc.cgroup.", func(p *parser, k, v string) error { return addCgroup(&p.cfg.Cgroup1, k, v) }},
	{"lxc.prlimit.", setLimit},
	{"lxc.sysctl.", setSysctl},
	{"lxc.proc.", setProcFile},
	{"lxc.net.", setNet},
	{"lxc.hook.", setHook},
	{"lxc.namespace.share.", func(p *parser, k, v string) error {
		return errors.New("sharing a namespace with another container is not supported; remove it")
	}},
}

// known accepts a key that this launcher does not need.
func known(*parser, string) error { return nil }

// ignore accepts a key that has no effect here, with a note why.
func (p *parser) ignore(v, why string) error {
	if v != "" {
		p.note(p.key, why)
	}
	return nil
}

// refuse returns an error for a key that must not have a value.
func refuse(v, why string) error {
	if v == "" {
		return nil
	}
	return errors.New(why)
}

func setInit(p *parser, v string) error {
	words, err := lxc.Split(v)
	if err == nil {
		p.cfg.Init = words
	}
	return err
}

// setCommand takes a command as a JSON array of its words.
func setCommand(p *parser, v string) error {
	var words []string
	if err := json.Unmarshal([]byte(v), &words); err != nil {
		return fmt.Errorf("%q is not a list of words: %w", clip(v), err)
	}
	if slices.ContainsFunc(words, func(w string) bool { return strings.IndexByte(w, 0) >= 0 }) {
		return errors.New("a NUL byte")
	}
	p.cfg.Init = words
	return nil
}

// exact returns a setter for values that are written as a JSON string.
func exact(set setter) setter {
	return func(p *parser, v string) error {
		var text string
		if err := json.Unmarshal([]byte(v), &text); err != nil {
			return fmt.Errorf("%q is not a string: %w", clip(v), err)
		}
		if strings.IndexByte(text, 0) >= 0 {
			return errors.New("a NUL byte")
		}
		return set(p, text)
	}
}

func setCwd(p *parser, v string) error {
	if v != "" && v[0] != '/' {
		return fmt.Errorf("%q is not absolute", v)
	}
	p.cfg.Cwd = v
	return nil
}

func setID(dst *uint32, v string) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n > 1<<31-1 {
		return fmt.Errorf("%q is not a user or group number", clip(v))
	}
	*dst = uint32(n)
	return nil
}

func setGroups(p *parser, v string) error {
	p.cfg.Groups = nil
	for _, w := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' }) {
		var id uint32
		if err := setID(&id, w); err != nil {
			return err
		}
		p.cfg.Groups = append(p.cfg.Groups, id)
	}
	return nil
}

func setEnv(p *parser, v string) error {
	if v == "" {
		p.cfg.Env = nil
		return nil
	}
	name, _, ok := strings.Cut(v, "=")
	if !ok {
		return errors.New("passing on a variable of the runtime (NAME alone) is not supported; write NAME=value")
	}
	if name == "" {
		return errors.New("the variable has no name")
	}
	p.cfg.Env = append(p.cfg.Env, v)
	return nil
}

func spaces(v string) (bits uintptr, err error) {
	for _, w := range strings.Fields(v) {
		b, ok := find(namespaces, w)
		if !ok {
			return 0, fmt.Errorf("%q is not a namespace", clip(w))
		}
		bits |= b
	}
	return bits, nil
}

// setKeep keeps the runtime's namespaces of these kinds. A container always gets its
// own mount namespace: otherwise its root would be the device's.
func setKeep(p *parser, v string) error {
	bits, err := spaces(v)
	if err != nil {
		return err
	}
	if bits&unix.CLONE_NEWNS != 0 {
		return errors.New("the mount namespace cannot be kept")
	}
	p.cfg.Namespaces = cloned &^ bits
	return nil
}

func setClone(p *parser, v string) error {
	bits, err := spaces(v)
	if err != nil {
		return err
	}
	if bits&^uintptr(cloned) != 0 {
		return errors.New("user and time namespaces are not supported; remove them")
	}
	p.cfg.Namespaces = bits | unix.CLONE_NEWNS
	return nil
}

func setHostname(p *parser, v string) error {
	if len(v) > 64 || strings.ContainsAny(v, "/ \t") {
		return fmt.Errorf("%q is not a valid host name", clip(v))
	}
	p.cfg.Hostname = v
	return nil
}

func setNoNewPrivs(p *parser, v string) error {
	on := false
	if err := setFlag(&on, v); err != nil {
		return err
	}
	p.cfg.NoNewPrivs = &on
	return nil
}

func setKeyring(p *parser, v string) error {
	own := true
	err := error(nil)
	if v != "" {
		err = setFlag(&own, v)
	}
	p.cfg.SameKeys = !own
	return err
}

func setCount(dst *int, v string) error {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is not a number up to 65535", clip(v))
	}
	*dst = int(n)
	return nil
}

func setFlag(dst *bool, v string) error {
	switch v {
	case "0", "":
		*dst = false
	case "1":
		*dst = true
	default:
		return fmt.Errorf("%q is neither 0 nor 1", clip(v))
	}
	return nil
}

// setHalt takes the name or number of a signal, including SIGRTMIN+N as systemd uses.
func setHalt(p *parser, v string) (err error) {
	p.cfg.HaltSignal, err = parseSignal(v)
	return err
}

// Real-time signals as the C libraries count them: they reserve the kernel's first two.
const rtMin, rtMax = 34, 64

func parseSignal(v string) (unix.Signal, error) {
	var n int
	switch {
	case strings.HasPrefix(v, "SIGRTMIN+"):
		n = rtMin + number(v[len("SIGRTMIN+"):])
	case strings.HasPrefix(v, "SIGRTMAX-"):
		n = rtMax - number(v[len("SIGRTMAX-"):])
	case strings.HasPrefix(v, "SIG"):
		n = int(unix.SignalNum(v))
	default:
		n = number(v)
	}
	if n < 1 || n > rtMax {
		return 0, fmt.Errorf("%q is not a signal", clip(v))
	}
	return unix.Signal(n), nil
}

// number returns a small number, or for any other text one outside the range of signals.
func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 7)
	if err != nil {
		return -1000
	}
	return int(n)
}

func addSetting(list *[]Setting, key, value string) error {
	if strings.ContainsAny(key, "/ \t") {
		return errors.New("not a valid name of a setting")
	}
	*list = append(*list, Setting{key, value})
	return nil
}

// coreSettings are the files of a control group itself that are settings. Others act: on
// processes of the device (cgroup.procs), or on the groups of all containers (cgroup.type).
var coreSettings = []string{"cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"}

// addCgroup adds a setting of a control group; it checks device rules.
func addCgroup(list *[]Setting, key, value string) error {
	if controller, _, dotted := strings.Cut(key, "."); (controller == "cgroup" || !dotted) && !slices.Contains(coreSettings, key) {
		return errors.New("it is not a resource of a controller; the runtime itself manages the container's group")
	}
	return errors.Join(checkDevices(key, value), addSetting(list, key, value))
}

func setNet(p *parser, key, value string) error {
	index, name, _ := strings.Cut(key, ".")
	n, err := strconv.ParseUint(index, 10, 8)
	if err != nil || name == "" {
		return errors.New("expected lxc.net.NUMBER.NAME")
	}
	net := p.net(int(n))
	if name == "type" {
		net.Type = value
		return nil
	}
	return addSetting(&net.Settings, name, value)
}

// net returns the interface with the index. It adds a missing one, sorted by index.
func (p *parser) net(index int) *Net {
	at := 0
	for at < len(p.cfg.Nets) && p.cfg.Nets[at].Index < index {
		at++
	}
	if at == len(p.cfg.Nets) || p.cfg.Nets[at].Index != index {
		p.cfg.Nets = slices.Insert(p.cfg.Nets, at, Net{Index: index})
	}
	return &p.cfg.Nets[at]
}

package kernel

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Config is a kernel's configuration: it maps an option without "CONFIG_" to its value:
// y, m or a text. Options that are not set are absent.
type Config map[string]string

// parseConfig reads a .config or /boot/config-<release>.
func parseConfig(text string) Config {
	c := Config{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if name, is := strings.CutPrefix(name, "CONFIG_"); ok && is {
			c[name] = strings.Trim(value, `"`)
		}
	}
	return c
}

// Need is one option that the runtime needs.
type Need struct {
	// Options lists options of which one is enough: kernels rename them.
	Options []string
	// Builtin means that a module is not enough: it cannot be loaded in time, or the
	// option has none.
	Builtin bool
	// For is what it is needed for.
	For string
	// Without is what happens without it.
	Without string
}

// without are what happens without the options of a purpose.
var without = map[string]string{
	"containers":                              "no container starts",
	"control groups":                          "containers start, but their processes, memory and devices have no limits",
	"the initrd":                              "the device does not get as far as the runtime",
	"supervision and keys":                    "a runtime that hangs is not noticed, or its keys and addresses cannot be set",
	"the storage":                             "the device does not find its revisions",
	"containers' file systems":                "no container has a root file system",
	"the boot partition":                      "updates cannot be tried: the boot loader's state cannot be read or written",
	"containers' networks":                    "containers with a network of their own do not start",
	"verified and encrypted volumes":          "containers with such volumes do not start",
	"tools in containers":                     "containers that use them fail",
	"squashfs packed with xz":                 "parts that are packed with it, as pvr does by default, cannot be mounted",
	"squashfs packed with zstd":               "parts that are packed with it, as builds do, cannot be mounted",
	"address translation of containers":       "containers do not reach the network of the device",
	"the runtime's timers on 32-bit machines": "the runtime's time limits do not work",
}

// configNeeds lists the options that the runtime and its containers need, grouped by purpose.
var configNeeds = needs()

func needs() []Need {
	builtin := map[string][]string{
		"containers": {"NAMESPACES", "UTS_NS", "IPC_NS", "PID_NS", "NET_NS", "USER_NS", "SECCOMP_FILTER", "POSIX_MQUEUE"},
		"control groups": {"CGROUPS", "CGROUP_DEVICE", "CGROUP_SCHED", "CGROUP_CPUACCT", "CGROUP_FREEZER", "CGROUP_PIDS",
			"CGROUP_BPF", "BLK_CGROUP", "CPUSETS", "MEMCG"},
		"the initrd":           {"BLK_DEV_INITRD", "RD_XZ", "RD_GZIP", "DEVTMPFS", "TMPFS", "MODULES", "UNIX"},
		"supervision and keys": {"WATCHDOG", "KEYS", "INET", "IPV6"},
	}
	module := map[string][]string{
		"the storage":              {"EXT4_FS", "BLK_DEV_LOOP"},
		"containers' file systems": {"SQUASHFS", "OVERLAY_FS"},
		"the boot partition":       {"VFAT_FS"},
		"containers' networks":     {"BRIDGE", "VETH", "MACVLAN", "VLAN_8021Q", "TUN", "NF_CONNTRACK", "NFT_NAT"},
		"verified and encrypted volumes": {"BLK_DEV_DM", "DM_CRYPT", "DM_VERITY", "CRYPTO_AES", "CRYPTO_CBC", "CRYPTO_ESSIV",
			"CRYPTO_SHA256", "ENCRYPTED_KEYS"},
		"tools in containers": {"CRYPTO_USER_API_HASH", "CRYPTO_USER_API_SKCIPHER", "WIREGUARD"},
	}
	var out []Need
	for _, what := range []string{"containers", "control groups", "the initrd", "supervision and keys"} {
		out = append(out, list(what, builtin[what], true)...)
	}
	for _, what := range []string{"the storage", "containers' file systems", "the boot partition", "containers' networks",
		"verified and encrypted volumes", "tools in containers"} {
		out = append(out, list(what, module[what], false)...)
	}
	return append(out,
		need("squashfs packed with xz", true, "SQUASHFS_XZ"),
		need("squashfs packed with zstd", true, "SQUASHFS_ZSTD"),
		need("address translation of containers", false, "IP_NF_TARGET_MASQUERADE", "NFT_MASQ"))
}

func list(what string, options []string, builtin bool) []Need {
	var out []Need
	for _, o := range options {
		out = append(out, need(what, builtin, o))
	}
	return out
}

func need(what string, builtin bool, options ...string) Need {
	return Need{Options: options, Builtin: builtin, For: what, Without: without[what]}
}

// Lack is a Need that a kernel does not satisfy.
type Lack struct {
	Option string `json:"option"`
	Have   string `json:"have"` // "m" or "not set"
	Want   string `json:"want"` // "y" or "y or m"
	For    string `json:"for"`
	// Without is what happens without it.
	Without string `json:"without"`
}

// String is the warning for the user.
func (l Lack) String() string {
	return fmt.Sprintf("kernel option CONFIG_%s is %s, want %s: needed for %s; without it %s", l.Option, l.Have, l.Want, l.For, l.Without)
}

// Check returns the needs that the configuration does not satisfy, in the order of Needs.
func (c Config) Check() []Lack {
	lacks := []Lack{}
	for _, n := range configNeeds {
		if n.Options[0] == "CPUSETS" && c["SMP"] == "" && len(c) > 0 {
			continue // with one CPU there is no choice
		}
		if l, bad := c.lack(n); bad {
			lacks = append(lacks, l)
		}
	}
	// On 32-bit machines the runtime's system calls have 32-bit times.
	if c["64BIT"] == "" && c["COMPAT_32BIT_TIME"] == "" && len(c) > 0 {
		const what = "the runtime's timers on 32-bit machines"
		lacks = append(lacks, Lack{"COMPAT_32BIT_TIME", "not set", "y", what, without[what]})
	}
	return lacks
}

func (c Config) lack(n Need) (Lack, bool) {
	l := Lack{Option: strings.Join(n.Options, " or CONFIG_"), Have: "not set", Want: "y or m", For: n.For, Without: n.Without}
	if n.Builtin {
		l.Want = "y"
	}
	for _, o := range n.Options {
		switch v := c[o]; {
		case v == "y", v == "m" && !n.Builtin:
			return Lack{}, false
		case v != "":
			l.Have = v
		}
	}
	return l, true
}

// ConfigCheck is the step that compares the kernel's configuration with what the runtime
// needs. A missing option is only a warning: the user may not need it. Its output is
// [ConfigReport].
type ConfigCheck struct {
	Tree build.Step `json:"-"`
}

// ConfigReport is the list of [Lack] as JSON.
const ConfigReport = "kernel-config.json"

var (
	_ build.Step      = (*ConfigCheck)(nil)
	_ build.Versioned = (*ConfigCheck)(nil)
)

// Name is "kernel/config".
func (c *ConfigCheck) Name() string { return "kernel/config" }

// Version of the step's logic.
func (c *ConfigCheck) Version() int { return 1 }

// Deps is the kernel's tree.
func (c *ConfigCheck) Deps() []build.Step { return []build.Step{c.Tree} }

// Run checks and reports.
func (c *ConfigCheck) Run(_ context.Context, w *build.Work) error {
	found, err := filepath.Glob(filepath.Join(w.In(c.Tree), "boot/config-*"))
	if err != nil || len(found) == 0 {
		w.Warn("the kernel package has no boot/config-<release>: its options were not checked")
		return writeJSON(filepath.Join(w.Out, ConfigReport), []Lack{})
	}
	config, err := ReadConfig(found[0])
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the kernel's configuration")
	}
	lacks := config.Check()
	for _, l := range lacks {
		w.Warn(l.String())
	}
	return writeJSON(filepath.Join(w.Out, ConfigReport), lacks)
}

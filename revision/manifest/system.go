// Package manifest is the typed and validated view of a state: what the engine
// of a device runs and what a composer builds (manual: Pantavisor State Format).
//
// [Parse] reads everything and reports every violation at once, each with the key
// of the state, the path inside its JSON value and what is allowed. What is merely
// odd (unknown members, settings that have no effect) becomes a note.
package manifest

import (
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Goal is the status that a container or group has to reach.
type Goal string

// The goals, in rising order.
const (
	Mounted Goal = "MOUNTED"
	Started Goal = "STARTED"
	Ready   Goal = "READY"
)

// Restart says what a change or failure of a container restarts.
type Restart string

// The restart policies.
const (
	RestartSystem    Restart = "system"    // the device reboots
	RestartContainer Restart = "container" // only the container restarts
)

// RoleMgmt gives a container the whole control interface; roleNobody gives none.
const (
	RoleMgmt   = "mgmt"
	roleNobody = "nobody"
)

// Options are what the device's configuration decides about the meaning of a state.
type Options struct {
	// DefaultRole is the role of containers whose run.json has no "roles":
	// empty for none, or "mgmt" as older runtimes did (PV_SECURITY_DEFAULT_ROLE).
	DefaultRole string
	// AppEngine leaves bsp/run.json out: neither needed nor read. Drivers are read when
	// they are there, and a container may require one that is not.
	AppEngine bool
	// Slot is the image of a boot partition that bsp/run.json must name: the boot loader is
	// rpiab or efiab. Empty for other loaders.
	Slot string
	// GoalsTimeout is the timeout of groups that name none
	// (PV_UPDATER_GOALS_TIMEOUT); 0 means 120 s.
	GoalsTimeout time.Duration
	// DevLog determines whether containers without "dev-log" get /dev/log
	// (PV_LOG_AUTO_DEVLOG).
	DevLog bool
	// Groups is the JSON text of the groups of states that define none; nil
	// means the built-in data, root, platform and app.
	Groups []byte
}

// System is a validated state.
type System struct {
	Spec string
	// DefaultGroups tells that the state defines no groups of its own.
	DefaultGroups bool
	Groups        []Group // in the order of starting
	Disks         []Disk
	Volumes       []Volume // of the runtime itself, below /volumes/bsp
	Pools         []Pool   // sorted by name
	// Remount maps a policy's name to its rules (device.json).
	Remount map[string][]RemountRule
	BSP     *BSP     // nil with Options.AppEngine
	Drivers *Drivers // nil without bsp/drivers.json
	// Containers are in the order of starting: by group, within one by name.
	Containers []Container
	Notes      []Note

	named map[string]bool
}

// Names reports whether the manifests name the file of that key as one that is booted, mounted or read.
func (s *System) Names(key string) bool { return s.named[key] }

// Group is a set of containers that start together.
type Group struct {
	Name        string
	Description string
	Goal        Goal
	Restart     Restart
	Timeout     time.Duration // for each member without its own to reach its goal; 0 waits for ever
	Recovery    *AutoRecovery // inherited by members without their own
}

// AutoRecovery says how a container that exited is started again.
type AutoRecovery struct {
	Policy        string // no, always, on-failure or unless-stopped
	MaxRetries    int    // 0 for no limit
	RetryDelay    time.Duration
	BackoffFactor float64 // the delay before attempt n is RetryDelay × factor^(n-1)
	ResetWindow   time.Duration
	StableTimeout time.Duration
	BackoffPolicy string // as written: reboot, never or a duration
	// BackoffWait is the duration of BackoffPolicy, 0 for reboot and never.
	BackoffWait time.Duration
}

// Disk is a medium for volumes.
type Disk struct {
	Name             string
	Aliases          []string
	Type             string
	Path             string
	Mode             string // mainline, nxp or empty
	Format           string // ext4, ext3 or swap
	Default          bool   // serves the volumes that name no disk
	MountTarget      string
	MountOptions     string
	FormatOptions    string
	Provision        string
	ProvisionOptions string
	UUID             string
	MigrateKeyblob   bool
	Disks            []string // sub-disks of a dual disk
	InitOrder        []string // actions of a dual disk
}

// Volume is a storage directory with its lifetime.
type Volume struct {
	Name        string
	Persistence string // permanent, revision or boot
	Disk        string // empty for the default disk, else no disk
}

// Pool is an address pool of a bridge.
type Pool struct {
	Name    string
	Type    string // bridge or macvlan
	Bridge  string
	Parent  string
	Subnet  string // CIDR
	Gateway string
	NAT     bool
}

// RemountRule changes the mount options of matching mount points.
type RemountRule struct {
	Pattern string // anchored extended regular expression
	Options string // comma-separated
}

// Artifact names a file of the state that is mounted: "file" or "handler:file".
type Artifact struct {
	Handler string // for example dm; empty for a plain file
	File    string // relative to the part's directory
}

// String returns the form in run.json.
func (a Artifact) String() string {
	if a.Handler == "" {
		return a.File
	}
	return a.Handler + ":" + a.File
}

// BSP is bsp/run.json. All paths are relative to bsp/.
type BSP struct {
	Linux, Initrd, FDT string
	FIT                string
	// Slot is the image of a boot partition: the member rpiab or efiab.
	Slot     string
	Firmware Artifact
	// Modules maps a kernel release to its modules; "" holds those for any.
	Modules map[string]Artifact
	Addons  []string
	// Compat is what the board provides, requires and conflicts with.
	Compat compat.Declared
}

// Drivers is bsp/drivers.json: abstract driver names and the modules behind them.
type Drivers struct {
	// All holds for any hardware.
	All map[string][]string
	// Special holds for some hardware; the keys keep their prefix: dtb:, ovl: or
	// fitconfig:.
	Special map[string]map[string][]string
}

// Modules returns the module lines of a driver, "module options", for hardware
// that the boot loader described with keys as in Special; the first that knows
// the driver wins over All.
func (d *Drivers) Modules(driver string, hardware ...string) ([]string, bool) {
	if d == nil {
		return nil, false
	}
	for _, h := range hardware {
		if lines, ok := d.Special[h][driver]; ok {
			return lines, true
		}
	}
	lines, ok := d.All[driver]
	return lines, ok
}

// Container is one <container>/run.json.
type Container struct {
	Name string // also the name of its directory
	Type string // lxc, or empty in a container that is only mounted
	// Config is the LXC configuration relative to the container's directory.
	Config  string
	Root    Artifact
	Volumes []Artifact // mounted beside the root
	Group   string
	Goal    Goal
	Restart Restart
	Timeout time.Duration // to reach the goal, its own or the group's; 0 waits for ever
	// Roles are as given; nil when the container has none.
	Roles []string
	Mgmt  bool // one of them is mgmt
	// Recovery is the container's own, or that of its group; nil for none.
	Recovery          *AutoRecovery
	RecoveryInherited bool
	Network           *Network
	Logs              []Logger
	Storage           []Volume // sorted by name
	Drivers           DriverRefs
	Requires          []Requirement // services.required
	Wants             []Requirement // services.optional
	Services          []Service     // services.json
	Exports           []string
	DevLog            bool
	AutoModFW         bool // modules and firmware are mounted into it
	Remount           map[string][]RemountRule
	// Compat is what the container provides, requires and conflicts with.
	Compat compat.Declared
	// Overlay are the paths below _config/<name>/, relative to the root.
	Overlay []string
}

// Network is how a container is connected.
type Network struct {
	Mode     string // host, pool or none
	Pool     string
	Hostname string
	IP       string
	MAC      string
}

// Logger follows a log of a container.
type Logger struct {
	Kind     string // file, lxc or console
	File     string // path in the container, for kind file
	Name     string
	MaxSize  int64 // bytes; 0 for the default
	Truncate bool
}

// DriverRefs are the managed drivers that a container uses.
type DriverRefs struct{ Required, Optional, Manual []string }

// Requirement is a service that a container wants to use.
type Requirement struct {
	Name, Type, Role, Interface, Target string
}

// Service is one that a container offers.
type Service struct {
	Name, Type, Socket string
	Bus, Role          string
	Owns, Allow        []string
}

// Note is an oddity that does no harm.
type Note struct {
	Key  string // state key
	Path string // inside its value, "" for the whole
	Text string
}

// String returns "key: path: text".
func (n Note) String() string { return place(n.Key, n.Path) + ": " + n.Text }

func place(key, path string) string {
	if path == "" {
		return key
	}
	return key + ": " + path
}

// Container returns a container by name.
func (s *System) Container(name string) (*Container, bool) {
	for i := range s.Containers {
		if s.Containers[i].Name == name {
			return &s.Containers[i], true
		}
	}
	return nil, false
}

// Group returns a group by name.
func (s *System) Group(name string) (*Group, bool) {
	for i := range s.Groups {
		if s.Groups[i].Name == name {
			return &s.Groups[i], true
		}
	}
	return nil, false
}

// Disk returns the disk of a volume by name or alias; the empty name asks for the
// default disk.
func (s *System) Disk(name string) (*Disk, bool) {
	for i := range s.Disks {
		d := &s.Disks[i]
		if d.Name == name || name == "" && d.Default {
			return d, true
		}
		for _, a := range d.Aliases {
			if a == name {
				return d, true
			}
		}
	}
	return nil, false
}

// Owner returns the container that a state key belongs to. What belongs to none
// is the BSP's: a change of it takes a reboot.
func (s *System) Owner(key string) (container string, ok bool) {
	part := state.PartOf(key)
	if !strings.Contains(key, "/") {
		return "", false
	}
	if _, ok := s.Container(part); !ok {
		return "", false
	}
	return part, true
}

package config

import "fmt"

// Level is where a value came from. A higher level wins over a lower one,
// whatever order they were loaded in.
type Level uint8

// The levels, lowest first (manual: Pantavisor Configuration).
const (
	Default   Level = iota // compiled in
	Args                   // words on the command line of the process itself
	PVConf                 // pantavisor.config
	PHConf                 // pantahub.config
	Client                 // credentials that the Hub gave at registration
	Policy                 // policies/<PV_POLICY>.config
	OEM                    // <PV_OEM_NAME>/<policy>.config of the running revision
	PVCmdline              // pv_ words of the kernel command line
	PHCmdline              // ph_ words of the kernel command line
	Env                    // environment of the process
	Meta                   // user metadata
	Command                // a command on the control socket
	levels
)

var levelNames = [levels]string{
	"default", "args", "pv conf file", "ph conf file", "client", "policy", "oem config",
	"pv cmdline", "ph cmdline", "env", "metadata", "command",
}

// String returns the level's name as GET /config2 shows it.
func (l Level) String() string {
	if l >= levels {
		return fmt.Sprintf("level %d", uint8(l))
	}
	return levelNames[l]
}

// levelSet is a set of levels, one bit each.
type levelSet uint16

func (s levelSet) has(l Level) bool { return s&(1<<l) != 0 }

// The groups of levels that the table in keys.go allows its keys.
const (
	boot levelSet = 1<<PVConf | 1<<Policy | 1<<PVCmdline | 1<<Env
	hub  levelSet = 1<<PHConf | 1<<Client | 1<<Policy | 1<<PHCmdline | 1<<Env
	only levelSet = 1<<PVConf | 1<<PVCmdline | 1<<Env
	oem  levelSet = 1 << OEM
	live levelSet = 1<<Meta | 1<<Command
	args levelSet = 1 << Args
)

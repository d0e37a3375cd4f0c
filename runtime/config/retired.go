package config

import "strings"

// retired are names of the deprecated syntax that have no key of their own any more
// (manual: Pantavisor Configuration, deprecated).
var retired = map[string]func(c *Config, l Level, raw string) (Key, bool){
	"wdt.enabled": func(c *Config, l Level, raw string) (Key, bool) {
		on, err := parseFlag(raw)
		switch {
		case err != nil:
			c.note(l, "wdt.enabled: %v; PV_WDT_MODE stays %s", err, c.Enum(WatchdogMode))
			return WatchdogMode, false
		case on.num == 0:
			return WatchdogMode, c.put(l, WatchdogMode, "disabled")
		case c.Enum(WatchdogMode) == "disabled":
			return WatchdogMode, c.put(l, WatchdogMode, table[WatchdogMode].def)
		}
		return WatchdogMode, false
	},
	"log.stdout": func(c *Config, l Level, raw string) (Key, bool) {
		on, err := parseFlag(raw)
		if err != nil {
			c.note(l, "log.stdout: %v; PV_LOG_SERVER_OUTPUTS stays %s", err, c.String(LogServerOutputs))
		}
		if err != nil || on.num == 0 {
			return LogServerOutputs, false
		}
		return LogServerOutputs, c.put(l, LogServerOutputs, c.String(LogServerOutputs)+",stdout")
	},
	"revision.retries.timeout": unused,
	"storage.opts":             unused,
	"creds.tpm.key":            unused,
	"creds.tpm.cert":           unused,
}

// replacement is what a retired name should be written as; those that are not here
// have no effect.
var replacement = map[string]Key{"wdt.enabled": WatchdogMode, "log.stdout": LogServerOutputs}

func unused(*Config, Level, string) (Key, bool) { return keys, false }

// setRetired takes a retired name with a note; it reports whether name is one.
func (c *Config) setRetired(l Level, name, raw string) (k Key, changed, ok bool) {
	name = strings.ToLower(name)
	set := retired[name]
	if set == nil {
		return keys, false, false
	}
	if now, ok := replacement[name]; ok {
		c.note(l, "%s should be written %s", name, table[now].name)
	} else {
		c.note(l, "%s has no effect any more", name)
	}
	k, changed = set(c, l, raw)
	return k, changed, true
}

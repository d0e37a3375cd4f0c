package config

import "slices"

// inert are the keys that are read, checked and shown, but that nothing in this version
// acts on.
var inert = []Key{
	CredsHost, CredsID, CredsPort, CredsProxyHost, CredsProxyNoProxyConnect, CredsProxyPort, CredsSecret,
	CredsType, FactoryAutotok, HTTPTimeout, HTTPRetries, DevmetaInterval, UsrmetaInterval,
	OnlineRequestThreshold, UpdaterInterval, UpdaterNetworkTimeout, UpdaterTransferMaxCount,
	DebugSSH, DebugSSHAuthorizedKeys,
	LibeventDebugMode, HTTPLogLevel, LogPush, PowerDevmetaEagerPush, PowerWakeInterval, PowerWakeRunWindow,
	PowerAutosleepSettle, PowerWakeMinAwake, PowerWakeMaxAwake, PowerDevmetaMaxHeld, RevisionRetries,
	StorageMntType, StorageFirmwareVol, CertsDir, DiskWritableDir, DropbearCacheDir,
	SystemLibDir, SystemMediaDir, SystemDisksDir,
	UpdaterUseTmpObjects, VolmountDMExtraArgs,
	XConnectDBusSystembus,
}

// noEffect is what the log and the lists say about an inert key.
const noEffect = "no effect in this version"

// isInert reports whether nothing in this version acts on the key.
func (k Key) isInert() bool { return slices.Contains(inert, k) }

// remark returns what lists say about a key.
func (k Key) remark() string {
	if !k.isInert() {
		return ""
	}
	return noEffect
}

// asIs are the values of inert keys that ask for what this version does anyway.
var asIs = map[Key]string{DebugSSH: "0", LogPush: "0", XConnectDBusSystembus: "0"}

// granted reports whether this version does what a value of an inert key asks for.
func (k Key) granted(text string) bool {
	v, ok := asIs[k]
	return ok && v == text
}

// noteInert notes the inert keys that a level has set to another value than the default,
// unless the device does what the value says.
func (c *Config) noteInert(l Level) {
	for _, k := range inert {
		if v := c.get(k); v.from == l && v.text != c.fallback(k) && !k.granted(v.text) {
			c.note(l, "%s has %s", table[k].name, noEffect)
		}
	}
}

// fallback returns the default of a key.
func (c *Config) fallback(k Key) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if vs := c.set[k]; len(vs) > 0 && vs[0].from == Default {
		return vs[0].text
	}
	return ""
}

package config

import "slices"

// securityKeys decide who may enter the device, what it trusts and what it hides.
var securityKeys = []Key{
	CredsSecret, FactoryAutotok, ControlRemote, ControlRemoteAlways, DebugShell, DebugShellAutologin, DebugSSH,
	DebugSSHAuthorizedKeys, CertsDir, PolicyName, SecurebootChecksum, SecurebootHandlers, SecurebootMode,
	SecurebootOEMTruststore, SecurebootTruststore, AppArmorProfiles, SystemMountSecurityfs, RemountPolicy,
	SecurityDefaultRole,
}

// Security reports whether the key decides who may enter the device, what it trusts or
// what it hides. The device goes on with a wrong value of such a key, on its default, as
// for any other; a build rejects it.
func (k Key) Security() bool { return slices.Contains(securityKeys, k) }

// Check returns what [Config.Set] would note about a setting: an unknown or deprecated
// name, a value that cannot be read, a level that the key may not be set at.
func Check(l Level, name, raw string) []string {
	c := New()
	c.Set(l, name, raw)
	return texts(c)
}

// CheckWord is Check for a word of the kernel command line. It returns nothing for a
// word that is no setting of the runtime.
func CheckWord(word string) []string {
	c := New()
	c.LoadCmdline(word)
	return texts(c)
}

func texts(c *Config) []string {
	var out []string
	for _, n := range c.Notes() {
		out = append(out, n.Text)
	}
	return out
}

// Lookup returns the key of a name, new or old, in any case.
func Lookup(name string) (Key, bool) {
	k, _, ok := lookup(name)
	return k, ok
}

package workspace

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/containers/network"
	"github.com/pantavisor/pantavisor/flash/personalize"
	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/meta"
)

// PersonalizeOptions are those of [Workspace.Personalize]. What is empty stays as it is. A value
// that begins with @ is the content of a file, of the standard input for @-.
type PersonalizeOptions struct {
	// Hub is HOST or HOST:PORT; Token is the one for claiming.
	Hub, Token string
	// Hostname is the device's name.
	Hostname string
	// NetType, IPv4, IPv6, DNS and Interface are pvnet_type, pvnet_ipv4, pvnet_ipv6, pvnet_dns
	// and pvnet_ifname; WiFi, WiFiPassword and WiFiSecurity are pvnet_ssid, pvnet_pass and
	// pvnet_security.
	NetType, IPv4, IPv6, DNS, Interface string
	WiFi, WiFiPassword, WiFiSecurity    string
	// Container is the one that the network's settings are for. Default: network.
	Container string
	// SSHKey is a public key, or the path of a file with such keys.
	SSHKey string
	// Meta are keys of user metadata, KEY=VALUE.
	Meta []string
	// Unset are names, as they are shown, of what is removed; Remove removes everything that is
	// not set in the same call.
	Unset  []string
	Remove bool
	// To is where a changed copy is made; "" changes the image itself.
	To string
	// Show only shows what is set; Secrets shows secrets too.
	Show, Secrets bool
	// Stdin is where @- is read from.
	Stdin io.Reader
}

// Names of settings, as they are shown.
const (
	nameHost     = "PH_CREDS_HOST"
	namePort     = "PH_CREDS_PORT"
	nameToken    = "PH_FACTORY_AUTOTOK"
	nameHostname = "hostname"
	nameSSHKeys  = "pvr-sdk.authorized_keys" // manual: User metadata

	defaultNetwork = "network" // the container
)

// Personalized is what [Workspace.Personalize] prints.
type Personalized struct {
	Image string `json:"image"`
	// Partition and Map are those that were changed, left out when nothing was.
	Partition int    `json:"partition,omitempty"`
	Map       string `json:"map,omitempty"`
	// Settings are those that are there now, by name; secrets are asterisks.
	Settings map[string]string `json:"settings"`
	// Stale are files beside the image with the digest that it had.
	Stale []string `json:"stale,omitempty"`
}

// Personalize changes the settings of one device in an image, that of a target, or a card, and
// shows them. Without a change it only shows them.
func (w *Workspace) Personalize(ctx context.Context, what string, o PersonalizeOptions) error {
	path := w.devicePath(what)
	if _, err := os.Stat(path); err != nil {
		if path, err = w.imageOf(what); err != nil {
			return err
		}
	}
	edit, err := w.edit(o)
	if err != nil {
		return err
	}
	done := Personalized{Image: path}
	var s personal.Settings
	if edit == nil {
		if o.To != "" {
			return fault.New(fault.BadInput, "--to makes a changed copy, and there is no change")
		}
		if s, err = personalize.Show(ctx, path); err != nil {
			return err
		}
	} else {
		to := ""
		if o.To != "" {
			to = w.path(o.To)
		}
		r, err := personalize.Change(ctx, path, to, func(old personal.Settings) (personal.Settings, error) {
			var err error
			s, err = edit(old)
			return s, err
		})
		if err != nil {
			return err
		}
		done.Image, done.Partition, done.Map = r.Path, r.Partition, r.Map
		if to == "" {
			done.Stale = stale(path)
		}
	}
	done.Settings = masked(byName(s), o.Secrets)
	for _, name := range done.Stale {
		fmt.Fprintf(w.Stderr, "warning  %s has the digest of the image as it was before\n", name)
	}
	return w.tell(done, done.text)
}

// text prints the settings, a line each.
func (p Personalized) text(out io.Writer) error {
	if len(p.Settings) == 0 {
		_, err := fmt.Fprintf(out, "%s has no settings of a single device\n", p.Image)
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Settings)) {
		if _, err := fmt.Fprintf(out, "%s=%s\n", name, plainText(p.Settings[name])); err != nil {
			return err
		}
	}
	return nil
}

// plainText quotes a value that a terminal would obey or that has several lines.
func plainText(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// byName returns all settings by their names.
func byName(s personal.Settings) map[string]string {
	out := maps.Clone(s.UserMeta)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, s.Hub)
	if s.Hostname != "" {
		out[nameHostname] = s.Hostname
	}
	return out
}

// public are names whose values are no secrets: all others may be.
var public = regexp.MustCompile(`^(PH_CREDS_(HOST|PORT)|hostname|[^/]+/hostname|[^/]+/pvnet_(type|ssid|security|ipv4|ipv6|address|dns|ifname)|pvr-sdk\.authorized_keys)$`)

// masked replaces what may be a secret.
func masked(all map[string]string, secrets bool) map[string]string {
	for name := range all {
		k, known := config.Lookup(name)
		if !secrets && !public.MatchString(name) && (!known || k.Security()) {
			all[name] = "********"
		}
	}
	return all
}

// stale returns the files beside an image that have its digest.
func stale(image string) []string {
	dir, base := filepath.Split(image)
	var out []string
	r, err := build.LoadReport(filepath.Join(dir, build.ReportName))
	if err == nil &&
		slices.ContainsFunc(r.Artefacts, func(a build.Published) bool { return a.Path == base }) {
		out = append(out, filepath.Join(dir, build.ReportName))
	}
	named := regexp.MustCompile(`(^|` + noName + `)` + regexp.QuoteMeta(base) + `($|` + noName + `)`)
	entries, _ := os.ReadDir(dir) // it was changed in there
	for _, e := range entries {
		if !sumsFile.MatchString(e.Name()) {
			continue
		}
		text, err := bounded.ReadRegular(filepath.Join(dir, e.Name()), maxSums)
		if err == nil && named.Match(text) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

// sumsFile are names of files with digests of others, and of their signatures.
var sumsFile = regexp.MustCompile(`(?i)^(sha|md5|b2)[0-9]*sums?|\.(sha256|sha512|md5|minisig|asc|intoto\.jsonl)$`)

// maxSums bounds such a file, in bytes; noName is a character that separates the names in it.
const (
	maxSums = 64 << 20
	noName  = `[^\pL\pN_.+-]`
)

// edit returns a function that changes settings as the options say, nil for no change. What is
// wrong with the options is told before anything is read.
func (w *Workspace) edit(o PersonalizeOptions) (func(personal.Settings) (personal.Settings, error), error) {
	e := &edits{w: w, o: o, set: map[string]string{}}
	var errs []error
	for _, step := range []func() error{e.hub, e.names, e.network, e.wifi, e.keys, e.meta} {
		errs = append(errs, step())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.New(fault.BadInput, "personalising:\n%w", err)
	}
	if len(e.set) == 0 && len(o.Unset) == 0 && !o.Remove {
		return nil, nil
	}
	if o.Show {
		return nil, fault.New(fault.BadInput, "--show shows what is set and changes nothing: leave it out, the new settings are shown")
	}
	return e.apply, nil
}

// edits are what the options say.
type edits struct {
	w   *Workspace
	o   PersonalizeOptions
	set map[string]string // by the names that are shown
}

// apply makes the new settings of the old ones.
func (e *edits) apply(old personal.Settings) (personal.Settings, error) {
	all := byName(old)
	if e.o.Remove {
		clear(all)
	}
	for _, name := range e.o.Unset {
		if _, there := all[name]; !there {
			if len(all) == 0 {
				return old, fault.New(fault.BadInput, "unsetting %q: nothing is set", name)
			}
			return old, spelling.Unknown("setting", name, slices.Sorted(maps.Keys(all)))
		}
		delete(all, name)
	}
	if e.o.WiFi != "" { // the password of another network is none of this one
		delete(all, e.container()+"/pvnet_pass")
	}
	maps.Copy(all, e.set)
	s := personal.Settings{Hub: map[string]string{}, UserMeta: map[string]string{}}
	for name, value := range all {
		switch {
		case name == nameHostname:
			s.Hostname = value
		case strings.HasPrefix(name, "PH_"):
			s.Hub[name] = value
		default:
			s.UserMeta[name] = value
		}
	}
	return s, checkPlaces(s.UserMeta)
}

// checkPlaces checks that no key of user metadata is also the container of another one, which the
// device does not take.
func checkPlaces(all map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		container, _, found := strings.Cut(name, "/")
		if _, both := all[container]; found && both {
			return fault.New(fault.BadInput, "the key %q cannot stand beside the key %q: unset one of them", container, name)
		}
	}
	return nil
}

// value returns what an option's text means: itself, or the content of a file.
func (e *edits) value(option, text string) (string, error) {
	name, ok := strings.CutPrefix(text, "@")
	if !ok {
		return text, nil
	}
	var data []byte
	var err error
	if name == "-" {
		if e.o.Stdin == nil {
			return "", fault.New(fault.BadInput, "--%s: there is no standard input", option)
		}
		data, err = bounded.Read(e.o.Stdin, personal.Size)
	} else {
		data, err = bounded.ReadRegular(e.w.path(name), personal.Size)
	}
	if err != nil {
		return "", fault.New(fault.BadInput, "--%s: reading its value: %w", option, err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// wrong is an error of an option.
func wrong(option, format string, args ...any) error {
	return fault.New(fault.BadInput, "--%s: %w", option, fmt.Errorf(format, args...))
}

// oneLine checks a value that must be a line of text.
func oneLine(option, value string) error {
	switch {
	case value == "":
		return wrong(option, "its value is empty")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return wrong(option, "its value has a control character or is not UTF-8")
	}
	return nil
}

// hub takes the address of the Hub and the token.
func (e *edits) hub() error {
	var errs []error
	if e.o.Token != "" {
		token, err := e.value("token", e.o.Token)
		if err == nil {
			err = oneLine("token", token)
		}
		if err == nil && strings.ContainsFunc(token, unicode.IsSpace) {
			err = wrong("token", "a token has no blanks")
		}
		errs = append(errs, err)
		e.set[nameToken] = token
	}
	if e.o.Hub == "" {
		return errors.Join(errs...)
	}
	host, port, err := net.SplitHostPort(e.o.Hub)
	if err != nil {
		host, port = strings.Trim(e.o.Hub, "[]"), ""
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if err := checkHost(host); err != nil {
			return errors.Join(append(errs, wrong("hub", "want HOST or HOST:PORT: %w", err))...)
		}
	}
	e.set[nameHost] = host
	if port != "" {
		if notes := config.Check(config.PHConf, namePort, port); notes != nil {
			return errors.Join(append(errs, wrong("hub", "the port: %s", strings.Join(notes, ", ")))...)
		}
		e.set[namePort] = port
	}
	return errors.Join(errs...)
}

// checkHost checks the name of a host, which may be longer than that of a device.
func checkHost(name string) error {
	const most = 253 // RFC 1035, section 2.3.4
	if len(name) > most {
		return fmt.Errorf("a name has up to %d characters", most)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if err := personal.CheckHostname(label); err != nil {
			return err
		}
	}
	return nil
}

// container is the one that the network's settings are for.
func (e *edits) container() string { return cmp.Or(e.o.Container, defaultNetwork) }

// names takes the host name, which the network's container tells servers.
func (e *edits) names() error {
	if c := e.o.Container; c != "" && (meta.CheckKey(c+"/x") != nil || strings.Contains(c, "/")) {
		return wrong("container", "%q is not the name of a container", c)
	}
	if e.o.Hostname == "" {
		return nil
	}
	if err := personal.CheckHostname(e.o.Hostname); err != nil {
		return wrong("hostname", "%w", err)
	}
	e.set[nameHostname], e.set[e.container()+"/hostname"] = e.o.Hostname, e.o.Hostname
	return nil
}

// network takes the parameters that our own container checks.
func (e *edits) network() error {
	var errs []error
	for _, p := range []struct{ option, name, value string }{
		{"nettype", "pvnet_type", e.o.NetType}, {"ipv4", "pvnet_ipv4", e.o.IPv4}, {"ipv6", "pvnet_ipv6", e.o.IPv6},
		{"dns", "pvnet_dns", e.o.DNS}, {"ifname", "pvnet_ifname", e.o.Interface},
	} {
		if p.value == "" {
			continue
		}
		if strings.ContainsFunc(p.value, unicode.IsSpace) {
			errs = append(errs, wrong(p.option, "its value has a blank"))
		} else if _, problems := network.ParseCmdline(p.name + "=" + p.value); problems != nil && (p.name != "pvnet_type" || p.value != "wifi") {
			errs = append(errs, wrong(p.option, "%w", errors.Join(problems...)))
		}
		e.set[e.container()+"/"+p.name] = p.value
	}
	return errors.Join(errs...)
}

// securities are the values of pvnet_security (manual: Network Platforms).
var securities = []string{"psk", "none", "wep", "ieee8021x"}

// wifi takes the parameters of Wi-Fi.
func (e *edits) wifi() error {
	o := e.o
	if o.WiFi == "" {
		if o.WiFiPassword+o.WiFiSecurity != "" {
			return wrong("wifi", "it names the network that the password and the security are for, and is missing")
		}
		return nil
	}
	password, err := e.value("wifipassword", o.WiFiPassword)
	if err != nil {
		return err
	}
	security := o.WiFiSecurity
	if security == "" {
		security = "none"
		if password != "" {
			security = "psk"
		}
	}
	for name, value := range map[string]string{"type": "wifi", "ssid": o.WiFi, "pass": password, "security": security} {
		if value != "" {
			e.set[e.container()+"/pvnet_"+name] = value
		}
	}
	if e.container() == defaultNetwork {
		fmt.Fprintln(e.w.Stderr, "warning  the container network of this project does not support Wi-Fi: these settings are for one of yours (--container)")
	}
	return errors.Join(checkNetwork(o.WiFi, o.NetType), checkPassword(security, password))
}

// checkNetwork checks the name of a wireless network.
func checkNetwork(name, netType string) error {
	var errs []error
	if len(name) > 32 { // IEEE 802.11
		errs = append(errs, wrong("wifi", "the name of a network has up to 32 bytes"))
	}
	if netType != "" && netType != "wifi" {
		errs = append(errs, wrong("nettype", "%s and --wifi contradict each other", netType))
	}
	return errors.Join(append(errs, oneLine("wifi", name))...)
}

// checkPassword checks what a wireless network wants to know.
func checkPassword(security, password string) error {
	if !slices.Contains(securities, security) {
		return wrong("wifisecurity", "%w", spelling.Unknown("security", security, securities))
	}
	if (security == "none") != (password == "") {
		return wrong("wifipassword", "--wifisecurity=none wants no password, and all others do; it is %s", security)
	}
	if password == "" {
		return nil
	}
	_, notKey := hex.DecodeString(password)
	if n := len(password); security == "psk" && (n < 8 || n > 64 || n == 64 && notKey != nil) {
		return wrong("wifipassword", "a password has 8 to 63 characters, or is a key of 64 hexadecimal digits")
	}
	return oneLine("wifipassword", password)
}

// keys takes the public keys for SSH.
func (e *edits) keys() error {
	text := e.o.SSHKey
	if text == "" {
		return nil
	}
	if !strings.Contains(text, " ") && !strings.HasPrefix(text, "@") { // a path
		text = "@" + text
	}
	text, err := e.value("sshkey", text)
	if err != nil {
		return err
	}
	if strings.Contains(text, "PRIVATE KEY") {
		return wrong("sshkey", "it is a private key, which must not leave this machine: take the one with the suffix .pub")
	}
	n := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if n++; !isPublicKey(line) {
			return wrong("sshkey", "line %d is not a public key as ssh-keygen writes it: %.40q", n, line)
		}
	}
	if n == 0 {
		return wrong("sshkey", "there is no key in it")
	}
	e.set[nameSSHKeys] = text + "\n"
	return nil
}

// isPublicKey reports whether a line of authorized_keys has a key: its type, and a text in base64
// that begins with that type (RFC 4253, section 6.6).
func isPublicKey(line string) bool {
	words := strings.Fields(line)
	for i := 0; i+1 < len(words); i++ {
		blob, err := base64.StdEncoding.DecodeString(words[i+1])
		if err != nil || len(blob) < 4 {
			continue
		}
		if n := binary.BigEndian.Uint32(blob); int64(n) < int64(len(blob)-4) && string(blob[4:4+n]) == words[i] && n > 0 {
			return true
		}
	}
	return false
}

// meta takes keys of user metadata.
func (e *edits) meta() error {
	var errs []error
	for _, pair := range e.o.Meta {
		key, text, ok := strings.Cut(pair, "=")
		if !ok {
			errs = append(errs, wrong("meta", "%q: want KEY=VALUE", pair))
			continue
		}
		value, err := e.value("meta", text)
		if err == nil {
			err = checkMeta(key, value)
		}
		errs = append(errs, err)
		e.set[key] = value
	}
	return errors.Join(errs...)
}

// checkMeta checks a key of user metadata as the device does.
func checkMeta(key, value string) error {
	if err := meta.CheckKey(key); err != nil {
		return wrong("meta", "%w", err)
	}
	if key == nameHostname {
		return wrong("meta", "%s is a setting of its own: --hostname", key)
	}
	if !utf8.ValidString(value) {
		return wrong("meta", "%s: its value is not UTF-8: encode it, as with base64", key)
	}
	prefix := strings.ToUpper(key[:min(len(key), 3)])
	if prefix == "PH_" {
		return wrong("meta", "%s: settings of the Hub are --hub and --token", key)
	}
	if prefix == "PV_" {
		if notes := config.Check(config.Meta, key, value); notes != nil {
			return wrong("meta", "%s: %s", key, strings.Join(notes, ", "))
		}
	}
	return nil
}

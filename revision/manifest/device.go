package manifest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/revision/canon"
)

// builtinGroups are the groups of states that define none.
const builtinGroups = `[
{"name":"data","description":"Containers which volumes we want to mount but not to be started","restart_policy":"system","status_goal":"MOUNTED","timeout":30},
{"name":"root","description":"Container or containers that are in charge of setting network connectivity up for the board","restart_policy":"system","status_goal":"STARTED","timeout":30},
{"name":"platform","description":"Middleware and utility containers","restart_policy":"system","status_goal":"STARTED","timeout":30},
{"name":"app","description":"Application level containers","restart_policy":"container","status_goal":"STARTED","timeout":30,
 "auto_recovery":{"policy":"on-failure","max_retries":5,"retry_delay":5,"backoff_factor":2.0,"stable_timeout":30,"backoff_policy":"reboot"}}]`

// device reads device.json, or the older files that it replaces.
func (p *parser) device() {
	legacy := []string{"disks.json", "disks_v2.json", "disks_v3.json", "groups.json"}
	n, ok := p.value("device.json")
	if !ok {
		p.legacyDevice()
	} else {
		for _, key := range legacy {
			if _, both := p.value(key); both {
				p.at(key).note("ignored, because device.json replaces it")
			}
		}
		p.deviceJSON(n)
	}
	if p.sys.Groups == nil {
		p.defaultGroups()
	}
}

func (p *parser) legacyDevice() {
	for _, key := range []string{"disks.json", "disks_v2.json", "disks_v3.json"} {
		if n, ok := p.value(key); ok {
			p.disks(n, key == "disks_v3.json")
		}
	}
	if n, ok := p.value("groups.json"); ok {
		p.groups(n)
	}
}

func (p *parser) deviceJSON(n node) {
	o, ok := n.object()
	if !ok {
		return
	}
	for _, name := range []string{"disks", "disks_v2", "disks_v3"} {
		if d, ok := o.member(name); ok {
			p.disks(d, name == "disks_v3")
		}
	}
	if g, ok := o.member("groups"); ok {
		p.groups(g)
	}
	if v, ok := o.member("volumes"); ok {
		p.sys.Volumes = p.storage(v)
	}
	if net, ok := o.member("network"); ok {
		p.network(net)
	}
	p.sys.Remount = remount(o)
	o.known("#spec")
	o.done()
}

func (p *parser) defaultGroups() {
	text := p.opt.Groups
	if text == nil {
		text = []byte(builtinGroups)
	}
	p.sys.DefaultGroups = true
	n := p.at("default groups")
	v, err := canon.Parse(text)
	if err != nil {
		n.fail("%v", err)
		return
	}
	n.v = v
	p.groups(n)
}

func (p *parser) groups(n node) {
	p.sys.Groups = []Group{}
	for _, e := range n.elems() {
		o, ok := e.object()
		if !ok {
			continue
		}
		g := p.group(o)
		if _, twice := p.sys.Group(g.Name); twice {
			o.fail("a second group with the name %q", g.Name)
		}
		p.sys.Groups = append(p.sys.Groups, g)
	}
	if len(n.v.Elems()) == 0 && n.v.Kind() == canon.Array {
		n.fail("empty; at least one group is needed")
	}
}

func (p *parser) group(o *object) Group {
	g := Group{
		Name:        o.need("name"),
		Description: o.str("description"),
		Goal:        Goal(o.enum("status_goal", "STARTED", "MOUNTED", "READY")),
		Restart:     Restart(o.enum("restart_policy", "container", "system")),
		Timeout:     p.opt.GoalsTimeout,
		Recovery:    recovery(o),
	}
	if _, ok := o.member("timeout"); ok {
		g.Timeout = o.seconds("timeout")
	}
	o.done()
	return g
}

// recovery reads the member auto_recovery.
func recovery(parent *object) *AutoRecovery {
	n, ok := parent.member("auto_recovery")
	if !ok {
		return nil
	}
	o, ok := n.object()
	if !ok {
		return nil
	}
	r := &AutoRecovery{
		Policy:        o.enum("policy", "no", "always", "on-failure", "unless-stopped"),
		MaxRetries:    int(o.number("max_retries", most)),
		RetryDelay:    o.seconds("retry_delay"),
		BackoffFactor: o.factor("backoff_factor"),
		ResetWindow:   o.seconds("reset_window"),
		StableTimeout: o.seconds("stable_timeout"),
	}
	r.BackoffPolicy, r.BackoffWait = o.backoff("backoff_policy")
	o.done()
	return r
}

func (o *object) factor(name string) float64 {
	n, ok := o.member(name)
	if !ok {
		return 1
	}
	text, isNumber := n.v.Number()
	f, err := strconv.ParseFloat(text, 64)
	if !isNumber || err != nil || f < 0 || f > 1e6 {
		n.fail("a number from 0 to 1000000 is expected")
		return 1
	}
	return f
}

var backoffUnits = []struct {
	suffix string
	unit   time.Duration
}{{"min", time.Minute}, {"h", time.Hour}, {"s", time.Second}, {"", time.Second}}

// backoff reads reboot, never or a duration; a bare number counts seconds.
func (o *object) backoff(name string) (string, time.Duration) {
	n, ok := o.member(name)
	if !ok {
		return "reboot", 0
	}
	text := n.str()
	if n.v.Kind() != canon.String || text == "reboot" || text == "never" {
		return text, 0
	}
	for _, u := range backoffUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		if i, err := strconv.ParseUint(digits, 10, 31); err == nil && time.Duration(i) <= time.Duration(1<<62)/u.unit {
			return text, time.Duration(i) * u.unit
		}
	}
	n.fail("%.80q; allowed are reboot, never and durations such as 30s, 10min, 1h", text)
	return "reboot", 0
}

var diskTypes = []string{"directory", "dm-crypt-versatile", "dm-crypt-caam", "dm-crypt-dcp", "swap-disk", "volume-disk", "dual"}

func (p *parser) disks(n node, lenient bool) {
	for _, e := range n.elems() {
		o, ok := e.object()
		if !ok {
			continue
		}
		if lenient && !hasWord(diskTypes, o.str("type")) {
			o.note("type %.80q is unknown, the disk is skipped", o.str("type"))
			continue
		}
		p.sys.Disks = append(p.sys.Disks, p.disk(o))
	}
}

func hasWord(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

func (p *parser) disk(o *object) Disk {
	d := Disk{
		Name: o.need("name"), Type: o.need("type"), Aliases: o.strings("aliases"), Path: o.str("path"),
		Mode: o.enum("mode", "", "mainline", "nxp"), Format: o.enum("format", "ext4", "ext3", "swap"),
		Default: o.yes("default"), MountTarget: o.str("mount_target"), MountOptions: o.str("mount_options"),
		FormatOptions: o.str("format_options"), Provision: o.str("provision"),
		ProvisionOptions: o.str("provision_options"), UUID: o.str("uuid"), MigrateKeyblob: o.yes("migrate_keyblob"),
		Disks: o.strings("disks"), InitOrder: o.strings("init_order"),
	}
	if d.ProvisionOptions == "" {
		d.ProvisionOptions = o.str("provision_ops")
	} else {
		o.known("provision_ops")
	}
	if d.MountOptions == "" {
		d.MountOptions = o.str("options")
	}
	o.known("options", "#spec")
	checkDisk(o, d)
	o.done()
	return d
}

var dualActions = []string{"primary", "secondary", "create-primary", "create-secondary", "copy-once-to-primary"}

func checkDisk(o *object, d Disk) {
	if d.Name != "" {
		o.at("name", canon.Value{}).element(d.Name)
	}
	if typ := o.at("type", canon.Value{}); d.Type != "" && !hasWord(diskTypes, d.Type) {
		typ.fail("%.80q; allowed are %s", d.Type, list(diskTypes))
	}
	switch {
	case strings.HasPrefix(d.Type, "dm-crypt-"):
		checkCrypt(o, d)
	case d.Type == "swap-disk" && d.Format != "swap":
		o.at("format", canon.Value{}).note("%s; a swap disk is formatted as swap", d.Format)
	case d.Type == "volume-disk" && d.MountTarget == "":
		o.at("mount_target", canon.Value{}).note("missing; the disk serves only volumes that name it")
	case d.Type == "dual":
		checkDual(o, d)
	}
}

// checkCrypt checks what an encrypted disk needs. A path that cannot be used fails the
// volumes on the disk when they are mounted, not the state.
func checkCrypt(o *object, d Disk) {
	n := o.at("path", canon.Value{})
	if d.Path == "" {
		n.fail("missing; image,size,key is expected")
		return
	}
	if _, _, _, err := d.crypt(); err != nil {
		n.note("%v; volumes on this disk cannot be mounted", err)
	}
}

// crypt splits the path of an encrypted disk, "image,size,key": the file that holds
// the disk, its size in MB and the name of its key.
func (d *Disk) crypt() (image string, size int, key string, err error) {
	f := strings.Split(strings.TrimPrefix(d.Path, "-v2 "), ",")
	if len(f) != 3 {
		return "", 0, "", fmt.Errorf("%.120q is not image,size,key", d.Path)
	}
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	size, err = strconv.Atoi(f[1])
	if err != nil || size < 1 || f[0] == "" || f[2] == "" {
		return "", 0, "", fmt.Errorf("%.120q is not image,size,key with a size in MB", d.Path)
	}
	return f[0], size, f[2], nil
}

func checkDual(o *object, d Disk) {
	if hasWord(d.Disks, d.Name) {
		o.at("disks", canon.Value{}).fail("the disk names itself")
	}
	if n := len(d.Disks); n < 2 || n > 4 {
		o.at("disks", canon.Value{}).fail("2 to 4 disk names are expected, not %d", n)
	}
	if len(d.InitOrder) == 0 || len(d.InitOrder) > 8 {
		o.at("init_order", canon.Value{}).fail("1 to 8 actions are expected, not %d", len(d.InitOrder))
	}
	for _, a := range d.InitOrder {
		if !hasWord(dualActions, a) {
			o.at("init_order", canon.Value{}).fail("%.80q; allowed are %s", a, list(dualActions))
		}
	}
}

// checkDisks checks what concerns several disks.
func (p *parser) checkDisks() {
	owner := map[string]string{}
	defaults := 0
	n := p.at("disks")
	for _, d := range p.sys.Disks {
		if _, twice := owner[d.Name]; twice {
			n.fail("a second disk with the name %q", d.Name)
		}
		owner[d.Name] = d.Name
		if d.Default {
			defaults++
		}
	}
	if defaults > 1 {
		n.fail("%d disks have \"default\": \"yes\"; at most one may", defaults)
	}
	for _, d := range p.sys.Disks {
		for _, a := range d.Aliases {
			if other, taken := owner[a]; taken {
				n.fail("the alias %q of disk %q is already a name of disk %q", a, d.Name, other)
			}
			owner[a] = d.Name
		}
		for _, sub := range d.Disks {
			if _, ok := owner[sub]; !ok && d.Type == "dual" {
				n.fail("disk %q names the unknown disk %q", d.Name, sub)
			}
		}
	}
	p.checkCycles(owner)
	p.noteUnknownDisks()
}

// checkCycles refuses dual disks that consist of each other; owner names each disk by
// its names. A disk that names itself has been refused already.
func (p *parser) checkCycles(owner map[string]string) {
	parts := map[string][]string{}
	for _, d := range p.sys.Disks {
		if d.Type == "dual" {
			parts[d.Name] = d.Disks
		}
	}
	const under, done = 1, 2
	state := map[string]int{}
	var visit func(name string) bool
	visit = func(name string) (cycle bool) {
		switch state[name] {
		case under:
			return true
		case done:
			return false
		}
		state[name] = under
		for _, sub := range parts[name] {
			cycle = owner[sub] != name && visit(owner[sub]) || cycle
		}
		state[name] = done
		return cycle
	}
	for _, d := range p.sys.Disks {
		if parts[d.Name] != nil && visit(d.Name) {
			p.at("disks").fail("the disk %q is a part of itself", d.Name)
		}
	}
}

// notePools: a container in an unknown pool fails when it starts, not before.
func (p *parser) notePools() {
	for _, c := range p.sys.Containers {
		if c.Network == nil || c.Network.Mode != "pool" {
			continue
		}
		known := slices.ContainsFunc(p.sys.Pools, func(pool Pool) bool { return pool.Name == c.Network.Pool })
		if !known {
			p.at(c.Name+"/run.json").note("there is no address pool %.80q in device.json; the container cannot start", c.Network.Pool)
		}
	}
}

// noteUnknownDisks: a volume on an unknown disk fails when its container starts,
// not before; a state that a device runs today must not be refused for it.
func (p *parser) noteUnknownDisks() {
	check := func(key string, volumes []Volume) {
		for _, v := range volumes {
			if _, ok := p.sys.Disk(v.Disk); v.Disk != "" && !ok {
				p.at(key).note("volume %q names the unknown disk %q and cannot be mounted", v.Name, v.Disk)
			}
		}
	}
	check("device.json", p.sys.Volumes)
	for _, c := range p.sys.Containers {
		check(c.Name+"/run.json", c.Storage)
	}
}

// storage reads an object of volumes.
func (p *parser) storage(n node) []Volume {
	var out []Volume
	names, nodes := n.members()
	for i, name := range names {
		o, ok := nodes[i].object()
		if !ok {
			continue
		}
		o.cleanPath(name)
		v := Volume{Name: strings.TrimSuffix(name, "/"), Disk: o.str("disk"), Persistence: o.str("persistence")}
		o.done()
		switch v.Persistence {
		case "permanent", "revision", "boot":
		case "":
			o.note("without persistence (permanent, revision or boot) the volume is ignored")
			continue
		default:
			o.note("persistence %.80q is unknown (allowed are permanent, revision, boot); boot is used", v.Persistence)
			v.Persistence = "boot"
		}
		if slices.ContainsFunc(out, func(w Volume) bool { return w.Name == v.Name }) {
			o.fail("a second volume with the name %q", v.Name)
		}
		out = append(out, v)
	}
	return out
}

func (p *parser) network(n node) {
	o, ok := n.object()
	if !ok {
		return
	}
	if pools, ok := o.member("pools"); ok {
		names, nodes := pools.members()
		for i, name := range names {
			if po, ok := nodes[i].object(); ok {
				p.pool(name, po)
			}
		}
	}
	o.done()
}

func (p *parser) pool(name string, o *object) {
	pool := Pool{
		Name: name, Type: o.enum("type", "bridge", "macvlan"), Bridge: o.str("bridge"), Parent: o.str("parent"),
		Subnet: o.str("subnet"), Gateway: o.str("gateway"), NAT: o.boolean("nat", true),
	}
	o.done()
	if pool.Subnet == "" || pool.Gateway == "" || pool.Type == "bridge" && pool.Bridge == "" {
		o.note("a pool needs subnet, gateway and bridge; it is skipped")
		return
	}
	subnet, err := netip.ParsePrefix(pool.Subnet)
	if err != nil {
		o.at("subnet", canon.Value{}).fail("%.80q; an address range such as 10.0.3.0/24 is expected", pool.Subnet)
	}
	gateway, gerr := netip.ParseAddr(pool.Gateway)
	if gerr != nil || err == nil && !subnet.Contains(gateway) {
		o.at("gateway", canon.Value{}).fail("%.80q; an address inside %s is expected", pool.Gateway, pool.Subnet)
	}
	p.sys.Pools = append(p.sys.Pools, pool)
}

// remount reads {"policy":[{"pattern":"options"},…],…}.
func remount(parent *object) map[string][]RemountRule {
	n, ok := parent.member("remount")
	if !ok {
		return nil
	}
	out := map[string][]RemountRule{}
	policies, nodes := n.members()
	for i, policy := range policies {
		for _, e := range nodes[i].elems() {
			patterns, options := e.members()
			for j, pattern := range patterns {
				out[policy] = append(out[policy], RemountRule{pattern, options[j].str()})
			}
		}
	}
	return out
}

package template

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/compat"
)

// run builds run.json.
func (r *renderer) run() canon.Value {
	m := object{}
	m.put("#spec", canon.Str("service-manifest-run@1"))
	m.put("name", canon.Str(r.name))
	m.put("drivers", r.drivers())
	r.group(&m)
	for member, arg := range map[string]string{
		"conditions": "PV_CONDITIONS", "runlevel": "PV_RUNLEVEL", "restart_policy": "PV_RESTART_POLICY",
		"status_goal": "PV_STATUS_GOAL", "automodfw": "PV_AUTOMODFW", "remount": "PV_REMOUNT", "auto_recovery": "PV_AUTO_RECOVERY",
	} {
		if v, ok := r.arg(arg); ok {
			m.put(member, v)
		}
	}
	r.timeout(&m)
	r.network(&m)
	if v, ok := r.arg("PV_SERVICES_REQUIRED"); ok {
		m.put("services", canon.Obj(canon.Member{Name: "required", Value: v}))
	}
	r.declared(&m, "provides", "PV_PROVIDES", compat.ParseProvided)
	r.declared(&m, "requires", "PV_REQUIRES", compat.Parse)
	r.declared(&m, "conflicts", "PV_CONFLICTS", compat.Parse)
	m.put("storage", r.storage())
	m.put("root-volume", canon.Str(r.rootVolume()))
	m.put("volumes", r.extraVolumes())
	if !r.dataOnly() {
		r.program(&m)
	}
	return canon.Obj(m...)
}

// timeout adds the seconds in which the container is to reach its goal; 0, for ever, counts
// as a value. The command line has it as text.
func (r *renderer) timeout(m *object) {
	const name = "PV_STATUS_GOAL_TIMEOUT"
	v, ok := r.args.Get(name)
	text, isText := v.Text()
	if !ok || v.Kind() == canon.Null || isText && text == "" {
		return
	}
	if isText {
		v, _ = canon.One([]byte(text)) // what is not a number is told below
	}
	number, _ := v.Number()
	if _, err := strconv.ParseUint(number, 10, 31); err != nil {
		r.fail("args.%s: a whole number of seconds is expected, 0 to wait for ever", name)
		return
	}
	m.put("timeout", v)
}

// declared adds the declarations of an argument, which is a list or a text with commas or
// blanks between them.
func (r *renderer) declared(m *object, member, arg string, parse func(string) (compat.Term, error)) {
	v, ok := r.arg(arg)
	if !ok {
		return
	}
	var words []string
	if text, isText := v.Text(); isText {
		words = compat.Split(text)
	} else {
		words = r.texts("args."+arg, v)
	}
	var list []canon.Value
	for _, w := range words {
		t, err := parse(w)
		if err != nil {
			r.fail("args.%s: %v", arg, err)
			continue
		}
		list = append(list, canon.Str(t.String()))
	}
	if len(list) > 0 {
		m.put(member, canon.List(list...))
	}
}

type object []canon.Member

func (o *object) put(name string, v canon.Value) {
	*o = append(*o, canon.Member{Name: name, Value: v})
}

// program adds the settings that only a container that runs has.
func (r *renderer) program(m *object) {
	m.put("config", canon.Str(ConfigName))
	m.put("type", canon.Str("lxc"))
	for _, member := range []string{"exports", "logs"} {
		if v, _ := r.src.Get(member); isSet(v) {
			m.put(member, v)
		}
	}
	if v, ok := r.arg("PV_ROLES"); ok {
		m.put("roles", v)
	}
}

func (r *renderer) drivers() canon.Value {
	var m object
	for member, arg := range map[string]string{"manual": "PV_DRIVERS_MANUAL", "required": "PV_DRIVERS_REQUIRED", "optional": "PV_DRIVERS_OPTIONAL"} {
		v, ok := r.arg(arg)
		if !ok {
			v = canon.List()
		}
		m.put(member, v)
	}
	return canon.Obj(m...)
}

// group chooses the group, or leaves it to the runlevel or the device.
func (r *renderer) group(m *object) {
	group, level := r.text("PV_GROUP", ""), r.text("PV_RUNLEVEL", "")
	if group != "" {
		r.say("Setting new platform to group %q", group)
	}
	if level != "" {
		r.say("Setting new platform to runlevel %q", level)
		r.say("WARN: using deprecated runlevel. Use --group instead for Pantavisor 015 or above")
		if r.tracked {
			r.say("WARN: PV_RUNLEVEL used and groups.json found at the same time")
		}
	}
	switch {
	case group != "" && !slices.Contains(r.groups, group) && !slices.Contains(r.device, group):
		r.say("%s", unknownGroup(r.device))
	case group == "" && level == "" && len(r.groups) > 0:
		group = r.groups[len(r.groups)-1]
		r.say("Setting new platform to default group %q", group)
	}
	if group != "" {
		m.put("group", canon.Str(group))
	}
}

// unknownGroup returns the warning for a group that neither groups.json nor device.json
// has, which itself has the given ones.
func unknownGroup(device []string) string {
	if len(device) == 0 {
		return "WARN: group does not exist in groups.json"
	}
	return "WARN: group does not exist in device.json, which has " + strings.Join(device, ", ")
}

func (r *renderer) network(m *object) {
	pool := r.text("PV_NETWORK_POOL", "")
	if pool == "" {
		return
	}
	net := object{{Name: "pool", Value: canon.Str(pool)}, {Name: "hostname", Value: canon.Str(r.text("PV_NETWORK_HOSTNAME", r.name))}}
	for member, arg := range map[string]string{"ip": "PV_NETWORK_IP", "mac": "PV_NETWORK_MAC"} {
		if text := r.text(arg, ""); text != "" {
			net.put(member, canon.Str(text))
		}
	}
	m.put("network", canon.Obj(net...))
}

func (r *renderer) storage() canon.Value {
	m := object{{Name: "lxc-overlay", Value: policy("boot")}}
	for _, v := range r.volumes {
		text := r.scalar("persistence."+v.path, v.policy)
		name := v.storage()
		if v.scheme == "" && v.path == "lxc-overlay" {
			name = v.path
		}
		m.put(name, policy(text))
	}
	return canon.Obj(m...)
}

// policy reads "persistence@disk".
func policy(text string) canon.Value {
	persistence, disk, ok := strings.Cut(text, "@")
	m := object{{Name: "persistence", Value: canon.Str(persistence)}}
	if ok {
		m.put("disk", canon.Str(disk))
	}
	return canon.Obj(m...)
}

func (r *renderer) patched() bool { return r.srcText("docker_ovl_digest") != "" }

func (r *renderer) rootVolume() string {
	root := "root.squashfs"
	if r.srcText("base") != "" && r.patched() {
		root = "root.ovl.squashfs"
	}
	enabled, _ := r.src.Get("dm_enabled")
	for _, volume := range []string{"root.squashfs", "root.ovl.squashfs"} {
		if v, _ := enabled.Get(volume); isSet(v) {
			return "dm:" + root
		}
	}
	return root
}

func (r *renderer) extraVolumes() canon.Value {
	names := r.words("PV_EXTRA_VOLUMES")
	for _, mount := range r.words("PV_VOLUME_MOUNTS") {
		name, _, _ := strings.Cut(mount, ":")
		names = append(names, name)
	}
	if r.patched() && r.srcText("base") == "" {
		names = append(names, "root.ovl.squashfs")
	}
	values := []canon.Value{}
	for _, n := range names {
		values = append(values, canon.Str(n))
	}
	return canon.List(values...)
}

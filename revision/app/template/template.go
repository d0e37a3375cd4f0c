// Package template renders an application's source manifest (src.json) into the files
// that a device uses: run.json and the LXC configuration (manual: pvr, Application
// templates; container arguments). The only template is builtin-lxc-docker.
package template

import (
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Builtin is the name of the template.
const Builtin = "builtin-lxc-docker"

// ConfigName is the file name of the LXC configuration.
const ConfigName = "lxc.container.conf"

// Input is an application to render.
type Input struct {
	// Name is the name of the application and of its directory.
	Name string
	// Source is the text of src.json.
	Source []byte
	// Groups is the text of the repository's groups.json; nil when it is not
	// tracked. An application without group and runlevel goes into its last one.
	Groups []byte
	// Device is the text of the repository's device.json, whose groups are known, too;
	// nil when it is not tracked.
	Device []byte
	// User is whom docker_config.User names; see [ParseUser] and [LookUp].
	User Account
}

// Output is a rendered application.
type Output struct {
	// Run is the value of run.json.
	Run canon.Value
	// Config is the text of lxc.container.conf; nil for a container that is only
	// mounted.
	Config []byte
	// Messages tell the user which group was chosen and what is deprecated.
	Messages []string
}

// Render renders an application. The error names the member of src.json at fault.
func Render(in Input) (*Output, error) {
	r, err := newRenderer(in)
	if err != nil {
		return nil, fmt.Errorf("rendering application %q: %w", in.Name, err)
	}
	out := &Output{Run: r.run()}
	if !r.dataOnly() {
		out.Config = r.config()
	}
	out.Messages = r.messages
	if r.err != nil {
		return nil, fmt.Errorf("rendering application %q: %w", in.Name, r.err)
	}
	return out, nil
}

type renderer struct {
	name     string
	src      canon.Value
	args     canon.Value
	docker   canon.Value // docker_config with config laid over it
	user     Account
	volumes  []volume
	groups   []string // of groups.json
	device   []string // of device.json
	tracked  bool     // groups.json is there
	messages []string
	err      error // the first
}

func newRenderer(in Input) (*renderer, error) {
	if err := state.CheckKey(in.Name); err != nil || strings.Contains(in.Name, "/") {
		return nil, fmt.Errorf("the name must be one element of a path")
	}
	src, err := canon.One(in.Source)
	if err != nil {
		return nil, fmt.Errorf("reading src.json: %w", err)
	}
	r := &renderer{name: in.Name, src: src, docker: dockerConfig(src), user: in.User}
	r.args, _ = src.Get("args")
	switch name := r.srcText("template"); name {
	case Builtin:
	case "":
		return nil, fmt.Errorf("empty template; %s is expected", Builtin)
	default:
		return nil, fmt.Errorf("invalid template, no handler for %s; %s is expected", name, Builtin)
	}
	if err := r.readGroups(in.Groups); err != nil {
		return nil, err
	}
	if err := r.readDevice(in.Device); err != nil {
		return nil, err
	}
	r.volumes = r.readVolumes()
	return r, nil
}

// dockerConfig merges src.json's config into docker_config; its null members change
// nothing.
func dockerConfig(src canon.Value) canon.Value {
	base, _ := src.Get("docker_config")
	over, _ := src.Get("config")
	members := append([]canon.Member(nil), base.Members()...)
	for _, m := range over.Members() {
		if !m.Value.IsNull() {
			members = append(members, m)
		}
	}
	return canon.Obj(members...)
}

func (r *renderer) readGroups(text []byte) error {
	if text == nil {
		return nil
	}
	r.tracked = true
	list, err := canon.One(text)
	if err != nil {
		return fmt.Errorf("reading groups.json: %w", err)
	}
	r.groups = groupNames(list)
	return nil
}

func (r *renderer) readDevice(text []byte) error {
	if text == nil {
		return nil
	}
	device, err := canon.One(text)
	if err != nil {
		return fmt.Errorf("reading device.json: %w", err)
	}
	list, _ := device.Get("groups")
	r.device = groupNames(list)
	return nil
}

func groupNames(list canon.Value) []string {
	var names []string
	for _, g := range list.Elems() {
		name, _ := g.Get("name")
		t, _ := name.Text()
		names = append(names, t)
	}
	return names
}

// User returns the user that the program of an application runs as, as its image or its
// configuration names it.
func User(src canon.Value) string {
	v, _ := dockerConfig(src).Get("User")
	text, _ := v.Text()
	return text
}

// volume is a path in the container that is kept outside its root.
type volume struct {
	scheme, path string // "" and /var/x, or ovl and /etc
	policy       canon.Value
}

// storage returns the name under which the volume is kept.
func (v volume) storage() string { return "docker" + v.scheme + "-" + dashes(v.path) }

// readVolumes returns the volumes of persistence and of the image, sorted by key;
// those of the image count as permanent unless persistence says otherwise.
func (r *renderer) readVolumes() []volume {
	image, _ := r.docker.Get("Volumes")
	kept, _ := r.src.Get("persistence")
	var members []canon.Member
	for _, m := range image.Members() {
		members = append(members, canon.Member{Name: strings.TrimSuffix(m.Name, "/"), Value: canon.Str("permanent")})
	}
	for _, m := range kept.Members() {
		members = append(members, canon.Member{Name: strings.TrimSuffix(m.Name, "/"), Value: m.Value})
	}
	var out []volume
	for _, m := range canon.Obj(members...).Members() {
		v := volume{path: m.Name, policy: m.Value}
		if scheme, path, ok := strings.Cut(m.Name, ":"); ok && !strings.HasPrefix(m.Name, "/") {
			v.scheme, v.path = scheme, path
		}
		out = append(out, v)
	}
	return out
}

func dashes(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path, "/"), "/", "-")
}

func (r *renderer) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *renderer) say(format string, args ...any) {
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}

func (r *renderer) srcText(member string) string {
	v, _ := r.src.Get(member)
	t, _ := v.Text()
	return t
}

// arg returns an argument if it is set: present and not "", 0, false, null or an empty
// list or object. The words "no" and "false" count as set.
func (r *renderer) arg(name string) (canon.Value, bool) {
	v, _ := r.args.Get(name)
	return v, isSet(v)
}

func isSet(v canon.Value) bool {
	switch v.Kind() {
	case canon.Null:
		return false
	case canon.Bool:
		b, _ := v.Bool()
		return b
	case canon.Number:
		n, _ := v.Number()
		return n != "0"
	case canon.String:
		t, _ := v.Text()
		return t != ""
	}
	return len(v.Elems())+len(v.Members()) > 0
}

func (r *renderer) has(name string) bool {
	_, ok := r.arg(name)
	return ok
}

// text returns an argument as text, or def when it is not set.
func (r *renderer) text(name, def string) string {
	v, ok := r.arg(name)
	if !ok {
		return def
	}
	return r.scalar("args."+name, v)
}

// textOr returns an argument as text, or def when there is none; an empty text is one.
func (r *renderer) textOr(name, def string) string {
	v, _ := r.args.Get(name)
	if v.IsNull() {
		return def
	}
	return r.scalar("args."+name, v)
}

func (r *renderer) scalar(where string, v canon.Value) string {
	switch v.Kind() {
	case canon.String:
		t, _ := v.Text()
		return t
	case canon.Number, canon.Bool:
		return string(v.Encode())
	}
	r.fail("%s: a string is expected, not a value of type %s", where, v.Kind())
	return ""
}

// list returns an argument that must be a list, as texts.
func (r *renderer) list(name string) []string {
	v, ok := r.arg(name)
	if !ok {
		return nil
	}
	return r.texts("args."+name, v)
}

func (r *renderer) texts(where string, v canon.Value) []string {
	if v.Kind() == canon.Null {
		return nil
	}
	if v.Kind() != canon.Array {
		r.fail("%s: a list is expected, not a value of type %s", where, v.Kind())
		return nil
	}
	var out []string
	for i, e := range v.Elems() {
		out = append(out, r.scalar(fmt.Sprintf("%s[%d]", where, i), e))
	}
	return out
}

// words returns the comma-separated words of an argument.
func (r *renderer) words(name string) []string {
	text := r.text(name, "")
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// dataOnly reports whether the container is mounted and never started.
func (r *renderer) dataOnly() bool {
	return r.text("PV_RUNLEVEL", "") == "data" || r.text("PV_STATUS_GOAL", "") == "MOUNTED"
}

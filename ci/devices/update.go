package devices

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Options say how devices are updated and promoted.
type Options struct {
	// Dir is the project: a working tree of git with device-ci.conf.json.
	Dir string
	// Env has the variables of the pipeline, in the form of os.Environ.
	Env []string
	// Only are the IDs of devices; none means all.
	Only []string
	// DryRun changes neither devices nor stores nor the project; checkouts below .pvci are made.
	DryRun bool
	// NoPush keeps commits of recipes in the clone.
	NoPush bool
	// Insecure allows registries without TLS.
	Insecure bool
	// CheckConfig reads a container's configuration as a device does; nil checks nothing.
	CheckConfig func(config []byte) (warnings []string, err error)
	// Say is called with each line about what is done.
	Say func(line string)
}

// run is one run of a command.
type run struct {
	Options
	config *Config
	env    environment
	places *places
	git    *git
}

func start(ctx context.Context, o Options) (*run, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the project")
	}
	o.Dir = dir
	r := &run{Options: o, env: o.Env, git: &git{dir, o.Env}}
	if r.config, err = Load(dir); err != nil {
		return nil, err
	}
	if err := r.choose(); err != nil {
		return nil, err
	}
	if err := r.git.isProject(ctx); err != nil {
		return nil, err
	}
	r.places, err = openPlaces(dir, r.env, func(text string) { r.say("warning: %s", text) })
	return r, err
}

// choose leaves the devices that the user named.
func (r *run) choose() error {
	if len(r.Only) == 0 {
		return nil
	}
	var ids []string
	for _, d := range r.config.Devices {
		ids = append(ids, d.ID)
	}
	for _, id := range r.Only {
		if !slices.Contains(ids, id) {
			return fault.Wrap(fault.BadInput, spelling.Unknown("device", id, ids), "choosing devices of %s", ConfigName)
		}
	}
	r.config.Devices = slices.DeleteFunc(r.config.Devices, func(d Device) bool { return !slices.Contains(r.Only, d.ID) })
	return nil
}

func (r *run) say(format string, args ...any) {
	if r.Say != nil {
		r.Say(fmt.Sprintf(format, args...))
	}
}

// Updated is what an update did for a device.
type Updated struct {
	ID       string   `json:"id"`
	Device   string   `json:"device"` // the schedule device
	Revision string   `json:"revision,omitempty"`
	Changes  []Change `json:"changes"` // of the recipe
	// Posted is set when the device got a revision, or would get one without DryRun.
	Posted bool   `json:"posted"`
	Error  string `json:"error,omitempty"`
}

// Update is the result of an update.
type Update struct {
	Devices   []Updated `json:"devices"`
	Message   string    `json:"message,omitempty"` // of the commit; "" when no recipe differs
	Committed bool      `json:"committed"`
	Pushed    bool      `json:"pushed"`
}

// Update brings the schedule devices of a project up to date. A device that cannot be brought there
// does not keep the others from it; the error names each such device.
func (o Options) Update(ctx context.Context) (*Update, error) {
	r, err := start(ctx, o)
	if err != nil {
		return nil, err
	}
	if !r.DryRun { // what is lacking is named before anything is posted
		if _, err := r.git.author(); err != nil {
			return nil, err
		}
	}
	out := &Update{Devices: []Updated{}}
	var errs []error
	for _, d := range r.config.Devices {
		u := Updated{ID: d.ID, Device: d.Schedule, Changes: []Change{}}
		if err := r.update(ctx, &d, &u); err != nil {
			u.Error = err.Error()
			errs = append(errs, fmt.Errorf("updating %s: %w", d.ID, err))
		}
		out.Devices = append(out.Devices, u)
		if ctx.Err() != nil {
			break
		}
	}
	out.Message = message(out.Devices)
	if !r.DryRun && ctx.Err() == nil {
		errs = append(errs, r.keep(ctx, out))
	}
	return out, errors.Join(errs...)
}

// keep commits and pushes the recipes, with commits that an earlier run could not push.
func (r *run) keep(ctx context.Context, out *Update) (err error) {
	if out.Message != "" {
		if out.Committed, err = r.git.commit(ctx, out.Message); err != nil {
			return err
		}
	}
	if r.NoPush {
		return nil
	}
	out.Pushed, err = r.git.push(ctx)
	return err
}

func (r *run) update(ctx context.Context, d *Device, u *Updated) error {
	at, err := r.places.open(d.Schedule)
	if err != nil {
		return err
	}
	has, err := at.read(ctx)
	if err != nil {
		return fmt.Errorf("reading the device %s: %w", d.Schedule, err)
	}
	if isEmpty(has.state) {
		return fault.New(fault.BadInput, "the device %s has no revision; its first one says what it is made of: post one with pvr", d.Schedule)
	}
	now := &recipe{state: has.state, Device: d.Schedule, Revision: has.name}
	parts, err := r.stale(ctx, has.state)
	if err != nil {
		return err
	}
	if len(parts) > 0 {
		r.say("%s: %s may have changed", d.ID, strings.Join(parts, ", "))
		if err := r.renew(ctx, d, at, has, now, parts, u); err != nil {
			return err
		}
	}
	u.Revision = now.Revision
	return r.record(ctx, d.ID, now, u)
}

// renew makes the parts of a device anew, and posts the state when it differs.
func (r *run) renew(ctx context.Context, d *Device, at place, has *revision, now *recipe, parts []string, u *Updated) error {
	lock, err := r.lock(ctx, d.ID)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	w, err := r.checkout(ctx, d.ID, at, has)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.renew(ctx, parts); err != nil {
		return err
	}
	now.state = w.Committed().Clone()
	if state.Equal(has.state, now.state) {
		return nil
	}
	u.Posted = true
	lines := changes(has.state, now.state)
	if r.DryRun {
		r.say("%s: would post to %s:\n%s", d.ID, d.Schedule, list(lines))
		return nil
	}
	objects, err := w.Objects()
	if err != nil {
		return err
	}
	now.Revision, err = at.post(ctx, posting{now.state, objects, has.state, subject(d.ID, lines)})
	if err != nil {
		u.Posted = false
		return err
	}
	r.say("%s: posted to %s:\n%s", d.ID, d.Schedule, list(lines))
	return nil
}

// record writes the recipe of a device when its state differs from the committed one.
func (r *run) record(ctx context.Context, id string, now *recipe, u *Updated) error {
	var from *state.State
	if head := r.git.head(ctx); head != "" {
		old, err := r.readRecipe(ctx, head, id)
		if err != nil {
			return err
		}
		if old != nil {
			from = old.state
		}
	}
	if from != nil && state.Equal(from, now.state) {
		return nil
	}
	u.Changes = changes(from, now.state)
	if r.DryRun {
		return nil
	}
	return r.writeRecipe(id, now)
}

func list(changes []Change) string {
	var lines []string
	for _, c := range changes {
		lines = append(lines, "- "+c.String())
	}
	return strings.Join(lines, "\n")
}

// subject says in one line what changed in a device, at most 200 bytes.
func subject(id string, changes []Change) string {
	var parts []string
	for _, c := range changes {
		parts = append(parts, c.String())
	}
	text := id + ": " + strings.Join(parts, ", ")
	if len(text) > 200 {
		text = fmt.Sprintf("%s: %d parts changed", id, len(changes))
	}
	return text
}

// message is the message of a commit: which recipes changed, and what in each.
func message(devices []Updated) string {
	var ids []string
	var b strings.Builder
	for _, d := range devices {
		if d.Error != "" || len(d.Changes) == 0 {
			continue
		}
		ids = append(ids, d.ID)
		fmt.Fprintf(&b, "\n%s, from %s%s:\n%s\n", d.ID, d.Device, revisionWords(d.Revision), list(d.Changes))
	}
	switch {
	case len(ids) == 0:
		return ""
	case len(strings.Join(ids, ", ")) > 50:
		return fmt.Sprintf("recipes: update %d devices\n%s", len(ids), b.String())
	}
	return "recipes: update " + strings.Join(ids, ", ") + "\n" + b.String()
}

func revisionWords(name string) string {
	if name == "" {
		return ""
	}
	return " revision " + name
}

// String says what an update did, in a line for each device.
func (u *Update) String() string {
	var b strings.Builder
	for _, d := range u.Devices {
		switch {
		case d.Error != "":
			fmt.Fprintf(&b, "%s: failed\n", d.ID)
		case len(d.Changes) == 0:
			fmt.Fprintf(&b, "%s: up to date\n", d.ID)
		default:
			fmt.Fprintf(&b, "%s: its recipe differs in %d of its parts\n", d.ID, len(d.Changes))
		}
	}
	if u.Message != "" {
		fmt.Fprintf(&b, "\n%s", u.Message)
	}
	return b.String()
}

package device

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/updater"
)

// dryRun finds out what an update to a state would do, and everything that would stop it. It
// writes nothing.
type dryRun struct {
	*session
	facts facts
	out   api.UpdateCheck
}

// CheckStored checks the state of a stored revision. The error is an [api.Error] when there
// is none.
func (u *updates) CheckStored(rev string) (api.UpdateCheck, error) {
	doc, err := u.steps.State(rev)
	if errors.Is(err, fs.ErrNotExist) {
		return api.UpdateCheck{}, &api.Error{Status: 404, Text: "Resource does not exist"}
	}
	if err != nil {
		return api.UpdateCheck{}, err
	}
	return u.check(rev, doc)
}

// CheckState checks a state that is not stored.
func (u *updates) CheckState(doc []byte) (api.UpdateCheck, error) { return u.check("", doc) }

func (u *updates) check(rev string, doc []byte) (api.UpdateCheck, error) {
	running := u.revs.running()
	d := &dryRun{session: u.session, facts: u.facts()}
	d.out = api.UpdateCheck{
		Revision: rev, From: running.name, Blockers: []api.UpdateBlocker{}, Space: []api.SpaceNeed{},
		RestartKeys: []string{}, Containers: []string{},
		Difference: state.Difference{Parts: []state.PartChange{}, Missing: []string{}},
	}
	err := d.look(running, doc)
	d.out.Possible = len(d.out.Blockers) == 0
	return d.out, err
}

func (d *dryRun) block(check, format string, args ...any) {
	const most = 100
	if len(d.out.Blockers) < most {
		d.out.Blockers = append(d.out.Blockers, api.UpdateBlocker{Check: check, Text: fmt.Sprintf(format, args...)})
	}
}

// look goes on as far as the state can be understood.
func (d *dryRun) look(running *revision, doc []byte) error {
	st, err := state.Parse(doc)
	if err != nil {
		d.block("state", "%v", err)
		return nil
	}
	if err := verify(d.cfg, st, d.log); err != nil {
		d.block("signature", "%v", err)
	}
	store, err := objects.Open(d.paths.objects)
	if err != nil {
		return err
	}
	from := running.state
	if from == nil {
		from = state.New(state.Spec)
	}
	d.out.Difference = state.Compare(from, st, store.Size)
	for _, sum := range d.out.Missing {
		d.block("object", "object %s is not on the device; send it first", sum)
	}
	d.system(running, st)
	if err := d.canTry(st); err != nil {
		d.block("boot loader", "%v", err)
	}
	return d.storage(st)
}

// system looks at what the state means.
func (d *dryRun) system(running *revision, st *state.State) {
	sys, err := manifest.Parse(st, manifestOptions(d.cfg))
	var problems manifest.Problems
	switch {
	case errors.As(err, &problems):
		for _, p := range problems {
			check := "state"
			if p.Path == "drivers.required" {
				check = "driver"
			}
			d.block(check, "%v", p)
		}
		return
	case err != nil:
		d.block("state", "%v", err)
		return
	}
	parts := d.facts.parts(running, st, sys)
	d.out.Unknown = compat.Unknown(parts)
	for _, p := range compat.Check(parts) {
		check := "compatibility"
		if p.Term.Kind == compat.Driver {
			check = "driver"
		}
		d.block(check, "%v", p)
	}
	if running.state == nil || running.loaded == nil { // as the updater decides
		d.out.Restart = true
		return
	}
	t := updater.Compare(running.state, st, running.system(), sys)
	d.out.Restart = len(t.Reboot) > 0
	d.out.RestartKeys = append(d.out.RestartKeys, t.Reboot...)
	d.out.Containers = append(d.out.Containers, t.Containers...)
}

// canTry returns why the boot loader cannot try a state, which also one needs that is first run
// without a restart.
func (s *session) canTry(st *state.State) error {
	if bad, ok := s.store.(noStore); ok {
		return bad.err
	}
	from := s.revs.running().state
	if err := boot.Ready(s.store, from == nil || bootImage(from) != bootImage(st)); err != nil {
		return fmt.Errorf("%s cannot try it: %w", s.cfg.Enum(config.BootloaderType), err)
	}
	return nil
}

// storage compares what the update needs with what there is.
func (d *dryRun) storage(st *state.State) error {
	needs, err := d.admission().needs(st)
	if err != nil {
		return err
	}
	for _, n := range needs {
		d.out.Space = append(d.out.Space, api.SpaceNeed{Partition: n.Partition, Required: n.Required, Available: n.Available})
		if err := n.Err(); err != nil {
			d.block("space", "%s: %v", n.Partition, err)
		}
	}
	return nil
}

// bootImage returns the object that a boot loader with slots has of a state, "" for none.
func bootImage(st *state.State) (sum string) {
	links, err := trail.BootLinks(st, func(error) {})
	if err != nil || len(links) == 0 || strings.HasPrefix(links[0].Name, "pv-") {
		return ""
	}
	sum, _ = st.Object(links[0].Target)
	return sum
}

package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/space"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// admission decides whether there is space for a revision.
type admission struct {
	usage   func() (space.Usage, error)
	objects string // the directory of the object store
	garbage func() *step.Garbage
	loader  func() (boot.Store, error)
}

// admission returns the admission of this device, which knows of no garbage.
func (s *session) admission() *admission {
	loader := func() (boot.Store, error) { return boot.Configured(s.cfg, s.paths.storage) }
	return &admission{usage: s.device.usage, objects: s.paths.objects, loader: loader}
}

// check returns an error, a [space.Error] with the numbers among others, when there is not
// enough for a state whose objects are there.
func (a *admission) check(st *state.State) error {
	needs, err := a.needs(st)
	for _, n := range needs {
		err = errors.Join(err, n.Err())
	}
	return err
}

func (a *admission) needs(st *state.State) ([]space.Need, error) {
	u, err := a.usage()
	if err != nil {
		return nil, err
	}
	store, err := objects.Open(a.objects)
	if err != nil {
		return nil, err
	}
	in := space.Install{State: st, Have: store.Size, Images: a.images(st, store)}
	needs, _ := in.Needs(u)
	return needs, nil
}

// images returns the boot image of a state, for a loader that keeps it in a partition. What
// cannot be known is left to the loader's store, which sees it before anything is lost.
func (a *admission) images(st *state.State, store *objects.Store) []space.Image {
	loader, err := a.loader()
	slotted, ok := loader.(boot.Slotted)
	links, err2 := trail.BootLinks(st, nil)
	if !ok || errors.Join(err, err2) != nil || len(links) == 0 {
		return nil
	}
	sum, _ := st.Object(links[0].Target) // of these loaders all is in one file
	size, err := unpackedSize(store, sum, strings.HasSuffix(links[0].Name, ".gz"))
	capacity, err2 := slotted.Capacity()
	if errors.Join(err, err2) != nil {
		return nil
	}
	return []space.Image{{Partition: "boot", Size: size, Capacity: capacity}}
}

// unpackedSize returns the size of an object as it is written: the end of a gzip file has
// it (RFC 1952 §2.3.1).
func unpackedSize(store *objects.Store, sum string, packed bool) (int64, error) {
	size, ok := store.Size(sum)
	if !packed || !ok || size < 4 {
		return size, nil
	}
	f, err := store.Open(sum)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var end [4]byte
	if _, err := f.ReadAt(end[:], size-4); err != nil {
		return 0, fmt.Errorf("reading the size of the boot image: %w", err)
	}
	return int64(binary.LittleEndian.Uint32(end[:])), nil
}

// answer is check with an answer to a client, which learns what collecting garbage would free.
func (a *admission) answer(st *state.State) error {
	err := a.check(st)
	if _, full := errors.AsType[*space.Error](err); !full {
		return err
	}
	e := &api.Error{Status: 507, Text: "Not enough disk space available", Details: strings.Split(err.Error(), "\n")}
	if free, err := a.garbage().Reclaimable(); err == nil && free > 0 {
		e.Details = append(e.Details, fmt.Sprintf("collecting garbage would free %d B", free))
	}
	return e
}

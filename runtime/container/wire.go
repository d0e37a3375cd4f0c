package container

import (
	"encoding"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/pantavisor/pantavisor/runtime/network"
)

// A wire encodes or decodes a plan as a list of values without names; launcher and first
// stage are the same program. One walk over the plan does both. encoding/json would add
// a third to the first stage's run time.
type wire struct {
	data    []byte
	reading bool
	broken  bool // the data ends too early or is not valid
}

// errWire is the error of a plan that cannot be decoded.
var errWire = errors.New("the plan is damaged")

// encode returns the plan in the form sent over the socket.
func (p *plan) encode() []byte {
	w := &wire{data: make([]byte, 0, packet)}
	p.walk(w)
	return w.data
}

// decodePlan reads what encode made.
func decodePlan(data []byte) (*plan, error) {
	p, w := &plan{}, &wire{data: data, reading: true}
	p.walk(w)
	if w.broken || len(w.data) > 0 {
		return nil, errWire
	}
	return p, nil
}

// number carries a number; all other values are made of numbers and bytes.
func (w *wire) number(n uint64) uint64 {
	if !w.reading {
		w.data = binary.AppendUvarint(w.data, n)
		return n
	}
	n, size := binary.Uvarint(w.data)
	if size <= 0 {
		w.broken, w.data = true, nil
		return 0
	}
	w.data = w.data[size:]
	return n
}

// whole carries a number of any size.
func whole[T ~int | ~uint8 | ~uint32 | ~uint64 | ~uintptr](w *wire, list ...*T) {
	for _, v := range list {
		*v = T(w.number(uint64(*v)))
	}
}

func (w *wire) flags(list ...*bool) {
	for _, v := range list {
		n := uint64(0)
		if *v {
			n = 1
		}
		*v = w.number(n) == 1
	}
}

func (w *wire) texts(list ...*string) {
	for _, v := range list {
		b := []byte(*v)
		w.bytes(&b)
		*v = string(b)
	}
}

// bytes carries bytes; nil stays nil.
func (w *wire) bytes(v *[]byte) {
	n := w.length(len(*v), *v == nil)
	switch {
	case !w.reading:
		w.data = append(w.data, *v...)
	case n < 0:
		*v = nil
	default:
		*v, w.data = w.data[:n:n], w.data[n:]
	}
}

// length carries how many bytes or elements follow, -1 for nil. An element takes at
// least a byte, so a length beyond the remaining bytes is damage.
func (w *wire) length(n int, none bool) int {
	if none {
		n = -1
	}
	got := w.number(uint64(n + 1))
	if w.reading && got > uint64(len(w.data))+1 {
		w.broken, w.data, got = true, nil, 0
	}
	return int(got) - 1
}

// each carries a list, element by element; nil stays nil.
func each[T any](w *wire, list *[]T, walk func(*T)) {
	n := w.length(len(*list), *list == nil)
	if w.reading && n >= 0 {
		*list = make([]T, n)
	}
	for i := range *list {
		walk(&(*list)[i])
	}
}

func (w *wire) lists(lists ...*[]string) {
	for _, l := range lists {
		each(w, l, func(s *string) { w.texts(s) })
	}
}

func (w *wire) settings(lists ...*[]Setting) {
	for _, l := range lists {
		each(w, l, func(s *Setting) { w.texts(&s.Key, &s.Value) })
	}
}

// address carries a value that has a binary form.
func address[T any, P interface {
	*T
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}](w *wire, v P) {
	var b []byte
	if !w.reading {
		b, _ = v.AppendBinary(nil) // never fails for addresses
	}
	w.bytes(&b)
	if w.reading && v.UnmarshalBinary(b) != nil {
		w.broken = true
	}
}

// walk carries all fields of the plan, in their order.
func (p *plan) walk(w *wire) {
	w.texts(&p.Stage)
	w.lists(&p.Root.Lowers)
	w.texts(&p.Root.Upper, &p.Root.Work, &p.Root.Dir, &p.Root.Options)
	w.lists(&p.Init, &p.Env)
	w.texts(&p.Cwd, &p.Hostname)
	w.flags(&p.NewCgroup, &p.SameKeys, &p.OwnNet)
	each(w, &p.Links, func(l *network.Interface) { walkLink(w, l) })
	whole(w, &p.Proc, &p.Sys, &p.Cgroup)
	w.flags(&p.CgroupV2, &p.Autodev, &p.Console)
	whole(w, &p.PtyMax, &p.TtyMax)
	each(w, &p.Mounts, func(m *Mount) { m.walk(w) })
	w.settings(&p.Limits, &p.Sysctls, &p.Process)
	whole(w, &p.Caps)
	w.flags(&p.NoNewPrivs, &p.Wait)
	whole(w, &p.UID, &p.GID)
	each(w, &p.Groups, func(g *uint32) { whole(w, g) })
	w.bytes(&p.Filter)
	w.texts(&p.AppArmor, &p.LabelDir)
	each(w, &p.Hooks, func(h *Hook) { w.texts(&h.Event, &h.Command) })
	w.texts(&p.Hooking.Name, &p.Hooking.Dir)
	whole(w, &p.Hooking.Version)
	w.lists(&p.Hooking.Env, &p.Exports)
	each(w, &p.Remounts, func(r *Remount) { w.texts(&r.Pattern, &r.Options) })
	w.flags(&p.Second)
}

func (m *Mount) walk(w *wire) {
	w.texts(&m.Source, &m.Target, &m.Type, &m.Data, &m.Create, &m.Below)
	whole(w, &m.Flags, &m.Spread)
	w.flags(&m.Optional, &m.Relative, &m.MakeDir)
}

func walkLink(w *wire, l *network.Interface) {
	w.texts(&l.Kind, &l.Link, &l.Name, &l.Pair, &l.Mode)
	w.bytes(&l.MAC)
	whole(w, &l.MTU)
	each(w, &l.Addresses, func(p *netip.Prefix) { address(w, p) })
	each(w, &l.Gateways, func(a *netip.Addr) { address(w, a) })
	w.flags(&l.Up, &l.AutoGateway4, &l.AutoGateway6)
}

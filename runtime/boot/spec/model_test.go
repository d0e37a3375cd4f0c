package spec_test

// disk is all that survives a loss of power, and what the firmware keeps over a restart. Revisions
// are 0 to 2; none is -1. Revision 2 has the kernel of 0.
type disk struct {
	rev, try rev
	trial    int8 // of the store, modulo trials
	mark     mark // of the loader
	markRT   rev  // the runtime's mark, where the loader has none
	flag     bool // the firmware was asked for the other partition or slot

	copies [2]copyOf // of the values in flash memory
	slot   [2]slot   // boot partitions, or slots
	first  int8      // the partition that is booted from

	status [revisions]status // last record of the journal
	had    [revisions]int8   // trials of its last update that the journal has counted, less one
	done   [revisions]bool   // .pv/done

	// What the model itself notes.
	orders int8 // updates so far
	starts int8 // of the test that was ordered last
	tests  int8 // of the update that was begun last
	last   rev  // reported DONE last
}

type (
	rev    int8
	mark   struct{ rev, trial int8 }
	copyOf struct {
		complete, started bool
		rev, try          rev
	}
	slot struct {
		image  rev // whose kernel it has; none: half of one
		list   [2]rev
		marked bool
	}
	status string
)

const none rev = -1

const (
	revisions = 3
	trials    = 3 // different numbers of tests
)

// kernel returns the revision whose kernel a revision has.
func kernel(r rev) rev {
	if r == 2 {
		return 0
	}
	return r
}

// write is one write that is done as a whole or not at all.
type write func(*disk)

// loader is the model of a boot loader with the store of the runtime for it. The three operations
// return their writes in order.
type loader interface {
	setTry(d disk, r rev) []write
	commit(d disk, r rev, from place) []write
	clear(d disk) []write
	// load returns pv_rev and pv_try.
	load(d disk) (good, try rev)
	// boot is what the loader does: it changes its mark and starts a revision.
	boot(d *disk) (rev, place)
	// started are the writes of process 1 in a test.
	started(d disk, r rev, from place) []write
	// again reports whether a test that process 1 has not marked may be made again, marks
	// whether the loader marks a new kernel before it starts it.
	again(d disk, from place) bool
	marks() bool
	// forgets reports whether the flag is lost with the power.
	forgets() bool
}

// place is the partition or slot that was booted from.
type place int8

// marking is GRUB or U-Boot with a boot script: the values are a file.
type marking struct {
	older  bool // knows no numbers, and removes its mark when it falls back
	erases bool // the runtime erases the mark: it is in flash memory
}

func (m marking) load(d disk) (good, try rev) { return d.rev, d.try }

func (m marking) setTry(d disk, r rev) []write {
	if r == d.rev {
		return m.clear(d)
	}
	var out []write
	if m.erases {
		out = m.clear(d)
	}
	return append(out, func(d *disk) { d.try, d.trial, d.markRT = r, (d.trial+1)%trials, none })
}

func (m marking) commit(_ disk, r rev, _ place) []write {
	return append([]write{func(d *disk) { d.rev, d.try, d.markRT = r, none, none }}, m.erase()...)
}

func (m marking) clear(disk) []write {
	return append([]write{func(d *disk) { d.try, d.markRT = none, none }}, m.erase()...)
}

func (m marking) erase() []write {
	if !m.erases {
		return nil
	}
	return []write{func(d *disk) { d.mark = mark{-1, -1} }}
}

func (m marking) boot(d *disk) (rev, place) {
	want := mark{int8(d.try), d.trial}
	if m.older {
		want.trial = -1
	}
	switch {
	case d.try == none:
		return d.rev, 0
	case d.mark != want:
		d.mark = want
		return d.try, 0
	case m.older:
		d.mark = mark{-1, -1}
	}
	return d.rev, 0
}

func (marking) started(disk, rev, place) []write { return nil }

// reading is extlinux: process 1 marks.
type reading struct{ marking }

func (reading) boot(d *disk) (rev, place) {
	if d.try != none && d.markRT != d.try {
		return d.try, 0
	}
	return d.rev, 0
}

func (reading) started(_ disk, r rev, _ place) []write {
	return []write{func(d *disk) { d.markRT = r }}
}

func (m marking) again(disk, place) bool { return m.older }
func (marking) marks() bool              { return true }
func (marking) forgets() bool            { return false }

func (reading) again(disk, place) bool { return true }
func (reading) marks() bool            { return false }

// inMemory is U-Boot with its values in two copies in NOR flash.
type inMemory struct{}

func (inMemory) use(d disk) int {
	if !d.copies[0].complete && d.copies[1].complete {
		return 1
	}
	return 0
}

func (m inMemory) load(d disk) (good, try rev) {
	c := d.copies[m.use(d)]
	return c.rev, c.try
}

func (m inMemory) change(d disk, good, try rev) (out []write) {
	use := m.use(d)
	for i := range 2 {
		n := (use + 1 + i) % 2
		out = append(out,
			func(d *disk) { d.copies[n].complete = false },
			func(d *disk) { d.copies[n] = copyOf{rev: none, try: none} },
			func(d *disk) { d.copies[n] = copyOf{rev: good, try: try} },
			func(d *disk) { d.copies[n].complete = true })
	}
	return out
}

func (m inMemory) setTry(d disk, r rev) []write {
	if good, _ := m.load(d); good != r {
		return m.change(d, good, r)
	}
	return m.clear(d)
}

func (m inMemory) commit(d disk, r rev, _ place) []write { return m.change(d, r, none) }

func (m inMemory) clear(d disk) []write {
	good, _ := m.load(d)
	return m.change(d, good, none)
}

func (m inMemory) boot(d *disk) (rev, place) {
	c := &d.copies[m.use(*d)]
	if c.try != none && !c.started {
		c.started = true
		return c.try, 0
	}
	return max(c.rev, 0), 0
}

func (inMemory) started(disk, rev, place) []write { return nil }

func (inMemory) again(disk, place) bool { return false }
func (inMemory) marks() bool            { return true }
func (inMemory) forgets() bool          { return false }

// slotted is uboot-ab: the environment is written as a whole, the mark is in the header.
type slotted struct{}

func (slotted) load(d disk) (good, try rev) { return d.rev, d.try }

// install are the writes that put a revision into the slot that the good one is not in.
func (slotted) install(d disk, r rev, test bool) []write {
	to := 0
	for i, s := range d.slot {
		if s.list[0] == r && !test {
			return nil
		}
		if s.list[0] == d.rev {
			to = 1 - i
		}
	}
	return []write{
		func(d *disk) { d.slot[to].list[0] = none },
		func(d *disk) {
			if d.slot[to].image != kernel(r) {
				d.slot[to].image = none
			}
		},
		func(d *disk) { d.slot[to].image = kernel(r) },
		func(d *disk) { d.slot[to].list[0], d.slot[to].marked = r, false },
	}
}

func (s slotted) setTry(d disk, r rev) []write {
	if r == d.rev {
		return s.clear(d)
	}
	return append(s.install(d, r, true), func(d *disk) { d.try = r })
}

func (s slotted) commit(d disk, r rev, _ place) []write {
	return append(s.install(d, r, false), func(d *disk) { d.rev, d.try = r, none })
}

func (slotted) clear(disk) []write { return []write{func(d *disk) { d.try = none }} }

func (s slotted) boot(d *disk) (rev, place) {
	for i := range d.slot {
		if d.try != none && d.slot[i].list[0] == d.try && !d.slot[i].marked {
			d.slot[i].marked = true
			return s.start(d, i)
		}
	}
	for i := range d.slot {
		if d.slot[i].list[0] == d.rev {
			return s.start(d, i)
		}
	}
	return none, 0
}

// start checks that a slot has the kernel that its header promises.
func (slotted) start(d *disk, i int) (rev, place) {
	if r := d.slot[i].list[0]; d.slot[i].image == kernel(r) {
		return r, place(i)
	}
	return none, 0
}

func (slotted) started(disk, rev, place) []write { return nil }

func (slotted) again(disk, place) bool { return false }
func (slotted) marks() bool            { return true }
func (slotted) forgets() bool          { return false }

// partitions is a device with two boot partitions and a one-shot flag.
type partitions struct {
	volatile bool // the flag is lost with the power
}

func (s slot) has(r rev) bool { return r != none && (s.list[0] == r || s.list[1] == r) }

func (partitions) load(d disk) (good, try rev) {
	good, try = d.rev, d.try
	if p := d.slot[d.first]; !p.has(good) {
		good = p.list[0]
	}
	if try == good {
		try = none
	}
	return good, try
}

func (p partitions) setTry(d disk, r rev) []write {
	good, _ := p.load(d)
	if r == good {
		return p.clear(d)
	}
	order := func(d *disk) { d.rev, d.try, d.markRT = good, r, none }
	out := []write{func(d *disk) { d.flag = false }}
	if kernel(r) == kernel(good) {
		return append(out, func(d *disk) { d.slot[d.first].list = [2]rev{good, r} }, order)
	}
	if d.slot[d.first].has(r) {
		out = append(out, func(d *disk) { d.slot[d.first].list = [2]rev{good, none} })
	}
	other := 1 - d.first
	return append(out,
		func(d *disk) {
			if d.slot[other].image != kernel(r) {
				d.slot[other] = slot{image: none, list: [2]rev{none, none}}
			}
		},
		func(d *disk) { d.slot[other].image = kernel(r) },
		func(d *disk) { d.slot[other].list = [2]rev{r, none} },
		order,
		func(d *disk) { d.flag = true })
}

func (p partitions) commit(d disk, r rev, from place) []write {
	out := []write{func(d *disk) { d.slot[from].list = [2]rev{r, none} }}
	if int8(from) != d.first {
		out = []write{func(d *disk) { d.first = int8(from) }}
	}
	return append(out, func(d *disk) { d.rev, d.try, d.markRT = r, none, none })
}

func (partitions) clear(disk) []write {
	return []write{func(d *disk) { d.flag = false }, func(d *disk) { d.try, d.markRT = none, none }}
}

func (p partitions) boot(d *disk) (rev, place) {
	at := d.first
	if d.flag {
		at = 1 - d.first
	}
	d.flag = false
	s := d.slot[at]
	good, try := p.load(*d)
	r := s.list[0]
	switch {
	case s.has(try) && (at != d.first || d.markRT != try):
		r = try
	case s.has(good):
		r = good
	}
	if r == none || s.image != kernel(r) {
		return none, 0
	}
	return r, place(at)
}

func (partitions) started(d disk, r rev, from place) []write {
	if int8(from) != d.first {
		return nil
	}
	return []write{func(d *disk) { d.markRT = r }}
}

func (partitions) again(d disk, from place) bool { return int8(from) == d.first }
func (partitions) marks() bool                   { return true }
func (p partitions) forgets() bool               { return p.volatile }

package spec_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/updater"
)

// maxOrders is how many updates are begun in one run of the model: one that fails, one that is
// good and one more.
const maxOrders = 3

// newDisk is a device that runs the factory's revision.
func newDisk() disk {
	empty := [2]rev{none, none}
	return disk{
		try: none, mark: mark{-1, -1}, markRT: none,
		copies: [2]copyOf{{rev: 0, try: none}, {rev: none, try: none}},
		slot:   [2]slot{{image: 0, list: [2]rev{0, none}}, {image: none, list: empty}},
		status: [revisions]status{"DONE", "", ""}, done: [revisions]bool{true, false, false},
	}
}

// device is the runtime on a disk: what it does between two boots, as a list of writes with
// the choices that are open to the world in between.
type device struct {
	loader loader
	judge  func(r boot.Running, running, tried status) verdict
	// reported first: DONE is written before the revision is committed, as older runtimes do.
	reported bool
	// careless: an update without a restart that has failed is left for the loader.
	careless bool
	// trials is PV_UPDATER_TRIALS.
	trials int8
	// eager: the loader is told of another trial before the journal is.
	eager  bool
	seen   map[disk]bool
	queue  []disk
	parent map[disk]note
	faults []string
}

// note says how a disk came about.
type note struct {
	from disk
	what string
}

// run explores all that can happen to a device.
func (m *device) run() {
	m.seen, m.parent = map[disk]bool{}, map[disk]note{}
	m.visit(newDisk(), disk{}, "a new device")
	for len(m.queue) > 0 && len(m.faults) == 0 {
		d := m.queue[0]
		m.queue = m.queue[1:]
		m.boot(d)
	}
}

// visit notes a disk of a device that is off or restarts.
func (m *device) visit(d, from disk, what string) {
	if !m.seen[d] {
		m.seen[d] = true
		m.parent[d] = note{from, what}
		m.queue = append(m.queue, d)
	}
}

// down notes a device that stops at any time: by a reset, and by a loss of power.
func (m *device) down(d, from disk, what string) {
	m.visit(d, from, what+"; reset")
	d.flag = d.flag && !m.loader.forgets()
	m.visit(d, from, what+"; power lost")
}

// fault notes what must not be, and how it came to it.
func (m *device) fault(d disk, format string, args ...any) {
	var trace []string
	for at := d; len(trace) < 40; {
		n, ok := m.parent[at]
		if !ok {
			break
		}
		trace = append(trace, fmt.Sprintf("%s\n\t%+v", n.what, at))
		if at == newDisk() {
			break
		}
		at = n.from
	}
	for i, j := 0, len(trace)-1; i < j; i, j = i+1, j-1 {
		trace[i], trace[j] = trace[j], trace[i]
	}
	m.faults = append(m.faults, fmt.Sprintf(format, args...)+"\n"+strings.Join(trace, "\n"))
}

// session is one boot.
type session struct {
	*device
	began   disk // the disk before the boot
	disk    disk
	running boot.Running
	rev     rev
	from    place
	path    string
}

// do makes writes, and lets the device go down before each.
func (s *session) do(what string, writes ...write) {
	for i, w := range writes {
		s.down(s.disk, s.began, fmt.Sprintf("%s; cut before write %d of %s", s.path, i+1, what))
		w(&s.disk)
	}
	s.path += "; " + what
}

func (s *session) journal(r rev, st status) {
	s.do(fmt.Sprintf("journal %d %s", r, st), func(d *disk) {
		if d.status[r] = st; st == "DONE" {
			d.last = r
		}
	})
}

func name(r rev) string {
	if r == none {
		return ""
	}
	return fmt.Sprint(int(r))
}

// boot starts a device and follows each way that is open.
func (m *device) boot(d disk) {
	s := &session{device: m, began: d, disk: d}
	s.rev, s.from = m.loader.boot(&s.disk)
	s.path = fmt.Sprintf("boots %d", s.rev)
	if s.rev == none {
		m.fault(d, "no revision is booted")
		return
	}
	good, try := m.loader.load(s.disk)
	if good == none {
		m.fault(d, "the good revision is forgotten")
		return
	}
	s.running = boot.Decide(name(s.rev), boot.Values{Rev: name(good), Try: name(try)})
	trying := s.running.State == boot.Trying
	if trying {
		m.test(s, good)
	}
	switch {
	case s.running.State == boot.Foreign:
		m.fault(d, "revision %d is booted, which is neither good nor to be tried", s.rev)
	case !trying && s.rev != good:
		m.fault(d, "revision %d is booted and %d is the good one", s.rev, good)
	case d.last != good && !open(d.status[good]):
		m.fault(d, "revision %d was reported DONE last, and %d is booted with %d as the good one", d.last, s.rev, good)
	}
	s.resume()
}

// test is the beginning of a test boot, which each kind of crash can end.
func (m *device) test(s *session, good rev) {
	if s.disk.starts++; s.disk.starts > 1 && !m.loader.again(s.disk, s.from) {
		m.fault(s.began, "revision %d is tested a second time", s.rev)
	}
	if s.disk.starts == 1 {
		s.disk.tests++
	}
	if s.disk.tests > max(1, m.trials) && !m.loader.again(s.disk, s.from) {
		m.fault(s.began, "revision %d has trial %d of %d", s.rev, s.disk.tests, m.trials)
	}
	s.disk.starts = min(s.disk.starts, 2)
	// Without a mark of the loader's, a new kernel that crashes at once is started for ever. That
	// of the good revision does not.
	if m.loader.marks() && kernel(s.rev) != kernel(good) {
		m.down(s.disk, s.began, s.path+"; its kernel crashes")
	}
	s.do("started", m.loader.started(s.disk, s.rev, s.from)...)
	m.down(s.disk, s.began, s.path+"; it crashes")
}

// resume is what follows from the table of package updater.
func (s *session) resume() {
	r, d := s.running, s.disk
	_, try := s.loader.load(d)
	v := s.judge(r, d.status[s.rev], lastOf(d, try))
	if v.committed {
		s.do("done", func(d *disk) { d.done[s.rev] = true })
		s.journal(s.rev, "DONE")
	}
	switch {
	case v.prove:
		s.prove()
		return
	case v.unexpected && s.disk.had[try]+1 < s.trials:
		s.tryAgain(try)
		return
	case v.unexpected:
		s.journal(try, "ERROR")
	}
	if try != none {
		s.do("clear", s.loader.clear(s.disk)...)
	}
	if v.refuse {
		s.visit(s.disk, s.began, s.path+"; restarts")
		return
	}
	s.settle()
}

// tryAgain gives a revision that ended without a word another trial.
func (s *session) tryAgain(r rev) {
	count := func(d *disk) { d.status[r], d.had[r] = "INPROGRESS", d.had[r]+1 }
	if s.eager {
		s.tryOf(r)
	}
	s.do(fmt.Sprintf("count a trial of %d", r), count)
	if !s.eager {
		s.tryOf(r)
	}
	s.visit(s.disk, s.began, s.path+"; restarts")
}

func lastOf(d disk, r rev) status {
	if r == none {
		return ""
	}
	return d.status[r]
}

// settle ends updates that were cut short, and is then idle.
func (s *session) settle() {
	for r := range rev(revisions) {
		if open(s.disk.status[r]) {
			s.journal(r, "ERROR")
		}
	}
	s.idle()
}

func open(st status) bool { return st == "QUEUED" || st == "INPROGRESS" || st == "TESTING" }

// idle checks a device that nothing happens to, and begins updates.
func (s *session) idle() {
	good, try := s.loader.load(s.disk)
	d := s.disk
	switch {
	case good == none:
		s.fault(s.began, "%s; the good revision is forgotten", s.path)
		return
	case d.status[good] != "DONE" && (d.status[good] != "ERROR" || s.rev == good):
		s.fault(s.began, "%s; revision %d is good, and reported as %s", s.path, good, d.status[good])
	case d.last != good:
		s.fault(s.began, "%s; revision %d was reported DONE last, and %d is the good one", s.path, d.last, good)
	case !d.done[good]:
		s.fault(s.began, "%s; the good revision %d is not marked as done", s.path, good)
	case try != none && d.status[try] != "UPDATED" && d.status[try] != "QUEUED":
		s.fault(s.began, "%s; the device is idle, and %d is to be tried although %s", s.path, try, d.status[try])
	}
	s.down(s.disk, s.began, s.path+"; idle")
	if s.disk.orders == maxOrders {
		return
	}
	for r := range rev(revisions) {
		s.fork(func(s *session) { s.restart(r) })
		s.fork(func(s *session) { s.swap(r) })
		s.fork(func(s *session) { s.wait(r) })
	}
}

// wait is an update that waits for the next restart, whoever asks for it. It can be given up.
func (s *session) wait(r rev) {
	if good, _ := s.loader.load(s.disk); r == s.rev || r == good {
		return
	}
	s.order(r)
	s.journal(r, "QUEUED")
	s.tryOf(r)
	s.fork((*session).idle)
	s.do("clear", s.loader.clear(s.disk)...)
	s.journal(r, "CANCELED")
	s.idle()
}

// fork follows one of several ways.
func (s *session) fork(way func(*session)) {
	other := *s
	way(&other)
}

// restart is an update with a restart.
func (s *session) restart(r rev) {
	if good, try := s.loader.load(s.disk); r == s.rev && r == good && try == none {
		return // nothing changes
	}
	s.order(r)
	s.journal(r, "INPROGRESS")
	s.tryOf(r)
	s.visit(s.disk, s.began, s.path+"; restarts")
}

func (s *session) order(r rev) {
	s.disk.orders++
	s.disk.tests, s.disk.had[r] = 0, 0
	s.path += fmt.Sprintf("; update to %d", r)
}

func (s *session) tryOf(r rev) {
	writes := s.loader.setTry(s.disk, r)
	for i, w := range writes {
		writes[i] = func(d *disk) {
			w(d)
			if _, try := s.loader.load(*d); try == r {
				d.starts = 0
			}
		}
	}
	s.do(fmt.Sprintf("try %d", r), writes...)
}

// swap is an update without a restart. The kernel stays, so both revisions must have the same.
func (s *session) swap(r rev) {
	if r == s.rev || kernel(r) != kernel(s.rev) {
		return
	}
	s.order(r)
	s.journal(r, "INPROGRESS")
	s.fork(func(s *session) { // it fails
		s.journal(r, "ERROR")
		if _, try := s.loader.load(s.disk); try == r && !s.careless {
			s.do("clear", s.loader.clear(s.disk)...)
		}
		s.idle()
	})
	s.journal(r, "TESTING")
	if good, _ := s.loader.load(s.disk); good == r {
		s.do("clear", s.loader.clear(s.disk)...)
		s.journal(r, "DONE")
	} else {
		s.tryOf(r)
		s.journal(r, "UPDATED")
	}
	s.rev = r
	s.idle()
}

// prove is the test of a revision.
func (s *session) prove() {
	s.journal(s.rev, "INPROGRESS")
	s.fork(func(s *session) {
		s.journal(s.rev, "ERROR")
		s.do("clear", s.loader.clear(s.disk)...)
		s.visit(s.disk, s.began, s.path+"; restarts")
	})
	s.journal(s.rev, "TESTING")
	if s.reported {
		s.journal(s.rev, "DONE")
	}
	s.do("commit", s.loader.commit(s.disk, s.rev, s.from)...)
	s.do("done", func(d *disk) { d.done[s.rev] = true })
	s.journal(s.rev, "DONE")
	s.idle()
}

// settles checks that a device, to which nothing more happens than that each test fails, comes to
// rest: no revision is tried for ever.
func (m *device) settles(d disk) bool {
	for range 5 {
		r, from := m.loader.boot(&d)
		good, try := m.loader.load(d)
		if r == good && r != try {
			return true
		}
		for _, w := range m.loader.started(d, r, from) {
			w(&d)
		}
	}
	return false
}

// verdict is that of the table of package updater.
type verdict struct {
	prove      bool // the running revision is under test
	refuse     bool // it has failed before and must not run
	unexpected bool // another one has ended without a word
	committed  bool // the running one is good, and that was not recorded
}

func judge(r boot.Running, running, tried status) verdict {
	v := updater.Judge(r, updater.Status(running), updater.Status(tried))
	return verdict{prove: v.Prove, refuse: v.Refuse, unexpected: v.Unexpected, committed: v.Committed}
}

// check explores a device and returns the first fault.
func (m *device) check() string {
	m.run()
	for d := range m.seen {
		if len(m.faults) == 0 && !m.settles(d) {
			m.fault(d, "it never comes to rest")
		}
	}
	if len(m.faults) == 0 {
		return ""
	}
	return m.faults[0]
}

// TestModel goes through every sequence of updates, failures and power cuts, for every loader.
func TestModel(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]loader{
		"script": marking{}, "older script": marking{older: true}, "older script, mark in flash": marking{older: true, erases: true}, "extlinux": reading{},
		"values in flash": inMemory{}, "two slots in flash": slotted{},
		"two partitions, Raspberry Pi": partitions{volatile: true}, "two partitions, UEFI": partitions{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for trials := range int8(3) {
				m := &device{loader: l, judge: judge, trials: trials + 1}
				if fault := m.check(); fault != "" {
					t.Error(fault)
				}
				t.Logf("with %d trials %d states of the storage", trials+1, len(m.seen))
			}
		})
	}
}

// Loaders and stores with one mistake each.
type (
	unmarked   struct{ marking }    // the mark is not kept
	oneCopy    struct{ inMemory }   // of the values
	fileFirst  struct{ partitions } // the file is believed, and not the sector
	goodIsLost struct{ slotted }    // the slot of the good revision is written
	staysAsked struct{ partitions } // the flag is not withdrawn
	imageFirst struct{ partitions } // while the image is written, the flag holds
	rewritten  struct{ inMemory }   // the copy that counts is written first
)

func (unmarked) boot(d *disk) (rev, place) {
	before := d.mark
	r, p := marking{}.boot(d)
	d.mark = before
	return r, p
}

func (o oneCopy) setTry(d disk, r rev) []write { return o.inMemory.setTry(d, r)[4:] }

func (r rewritten) commit(d disk, to rev, from place) []write {
	w := r.inMemory.commit(d, to, from)
	return append(w[4:], w[:4]...)
}

func (fileFirst) load(d disk) (good, try rev) { return d.rev, d.try }

func (g goodIsLost) setTry(d disk, r rev) []write {
	if r == d.rev {
		return g.clear(d)
	}
	return []write{
		func(d *disk) { d.slot[0] = slot{image: none, list: [2]rev{none, none}} },
		func(d *disk) { d.slot[0] = slot{image: kernel(r), list: [2]rev{r, none}} },
		func(d *disk) { d.try = r },
	}
}

func (s staysAsked) clear(d disk) []write { return s.partitions.clear(d)[1:] }

func (i imageFirst) setTry(d disk, r rev) []write { return i.partitions.setTry(d, r)[1:] }

// TestModelFindsMistakes proves that the model can fail.
func TestModelFindsMistakes(t *testing.T) {
	t.Parallel()
	forgetful := func(r boot.Running, running, tried status) verdict {
		v := judge(r, running, tried)
		v.committed = false
		return v
	}
	for i, c := range []struct {
		want   string
		device *device
	}{
		{"is tested a second time", &device{loader: unmarked{}, judge: judge}},
		{"neither good nor to be tried", &device{loader: staysAsked{}, judge: judge}},
		{"no revision is booted", &device{loader: goodIsLost{}, judge: judge}},
		{"neither good nor to be tried", &device{loader: imageFirst{}, judge: judge}},
		{"neither good nor to be tried", &device{loader: fileFirst{}, judge: judge}},
		{"the good revision is forgotten", &device{loader: oneCopy{}, judge: judge}},
		{"the good revision is forgotten", &device{loader: rewritten{}, judge: judge}},
		{"was reported DONE last", &device{loader: marking{}, judge: judge, reported: true}},
		{"is good, and reported as ERROR", &device{loader: marking{}, judge: forgetful}},
		{"is to be tried although ERROR", &device{loader: marking{}, judge: judge, careless: true}},
		{"has trial 3 of 2", &device{loader: marking{}, judge: judge, trials: 2, eager: true}},
	} {
		got, _, _ := strings.Cut(c.device.check(), "\n")
		if !strings.Contains(got, c.want) {
			t.Errorf("mistake %d: %q, want %q", i+1, got, c.want)
		}
	}
}

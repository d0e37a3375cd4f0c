package powercut

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// outcome is what a replay has found.
type outcome struct {
	moments  int // at which the power was cut
	disks    int // that were judged
	checked  int // of them with e2fsck
	findings []Finding
	picks    []string // the revision that the loader starts, behind each entry of the log
	turns    []int    // entries of the log that change what the loader does
}

// replayer goes through a recording.
type replayer struct {
	rec     *recording
	judge   *judge
	durable *disk   // what no power cut takes away
	plain   *disk   // with all writes so far
	pending []entry // writes since the last flush
	known   known
	rng     *rand.Rand
	out     outcome
	values  string // that the loader has read last
	o       replayOptions
	work    *scratch.Dir
	flushes int
}

// replayOptions say what [replayLog] does.
type replayOptions struct {
	// Losses and Seed are as in [Options].
	Losses int
	Seed   uint64
	// Fsck is the number of flushes from one check with e2fsck to the next; 0 is none.
	Fsck int
	// Lying is a medium that says that it has flushed and has not.
	Lying bool
	// Only are the entries behind which disks are judged; nil: all.
	Only map[int]bool
	// Boot is called for one disk of each entry in Only that is right, with what became of the writes
	// that were not flushed and the revision that the loader starts. The disk changes after the call.
	Boot func(i int, how string, d *disk, rev string) error
}

// replayLog cuts the power at each write and flush of a recording and judges the disk: with the
// writes that were not flushed all there, with some of them missing, and torn.
func replayLog(ctx context.Context, r *recording, o replayOptions) (*outcome, error) {
	base, err := os.Open(r.Image)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening the image")
	}
	defer base.Close()
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	work, err := scratch.New("pv-cut-")
	if err != nil {
		return nil, err
	}
	defer work.Remove()
	l, err := newLoader(r, base, filepath.Join(work.Path, "loader"))
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "replaying")
	}
	p := &replayer{
		rec: r, durable: newDisk(base, r.Size), rng: rand.New(rand.NewPCG(o.Seed, 0)), o: o, work: work,
		judge: &judge{loader: l, storage: r.Storage, size: r.Size, dir: dir, good: map[string]bool{}, sums: map[string]string{}},
		known: known{done: "0"},
	}
	p.plain = newDisk(p.durable, r.Size)
	for i, e := range r.Log {
		if err := p.step(ctx, i, e); err != nil {
			return nil, err
		}
	}
	p.out.disks = p.judge.judged
	return &p.out, nil
}

// step does what an entry of the log says, and cuts the power behind it.
func (p *replayer) step(ctx context.Context, i int, e entry) error {
	switch e.Kind {
	case marked:
		p.known.learn(e.Mark.(seen))
	case wrote:
		if p.rec.Through {
			if err := p.flush(); err != nil {
				return err
			}
		}
		p.pending = append(p.pending, e)
		if _, err := p.plain.WriteAt(e.Data, e.Off); err != nil {
			return err
		}
	case flushed:
		if err := p.flush(); err != nil {
			return err
		}
	}
	if p.o.Only != nil {
		return p.boot(i, e)
	}
	p.out.moments++
	p.follow(i)
	if e.Kind == wrote {
		return p.losses(i)
	}
	if e.Kind == flushed && p.o.Fsck > 0 {
		if p.flushes++; p.flushes%p.o.Fsck == 0 {
			p.out.checked++
			p.found(i, allThere, p.fsck(ctx, p.durable))
		}
	}
	return ctx.Err()
}

// allThere is what became of the writes that were not flushed, when nothing was lost.
const allThere = "all writes are there"

// boot has a disk booted behind an entry: in turn one with all writes, and one without some of them.
func (p *replayer) boot(i int, e entry) error {
	if !p.o.Only[i] {
		return nil
	}
	p.out.moments++
	d, how := p.plain, allThere
	if p.out.moments%2 == 0 && e.Kind == wrote {
		var err error
		if d, how, err = p.loss(1); err != nil {
			return err
		}
	}
	s, err := p.judge.check(d, &p.known)
	if err != nil {
		p.found(i, how, err)
		return nil
	}
	return p.o.Boot(i, how, d, s.rev)
}

// flush brings all writes so far to the medium.
func (p *replayer) flush() error {
	for _, w := range p.pending {
		if p.o.Lying {
			break
		}
		if _, err := p.durable.WriteAt(w.Data, w.Off); err != nil {
			return err
		}
	}
	p.plain, p.pending = newDisk(p.durable, p.rec.Size), nil
	return nil
}

// follow judges the disk with all writes and notes what the loader does with it.
func (p *replayer) follow(i int) {
	s, err := p.judge.check(p.plain, &p.known)
	p.found(i, allThere, err)
	if values := s.rev + s.read; values != p.values {
		p.out.turns = append(p.out.turns, i)
		p.values = values
	}
	p.out.picks = append(p.out.picks, s.rev)
}

func (p *replayer) judged(i int, how string, d *disk) {
	_, err := p.judge.check(d, &p.known)
	p.found(i, how, err)
}

func (p *replayer) found(i int, how string, err error) {
	if err != nil {
		p.out.findings = append(p.out.findings, Finding{i + 1, how, err.Error()})
	}
}

// losses judges disks on which writes since the last flush are missing or torn.
func (p *replayer) losses(i int) error {
	for v := range p.o.Losses {
		d, how, err := p.loss(v)
		if err != nil {
			return err
		}
		p.judged(i, how, d)
	}
	return nil
}

// loss makes a disk without some of the writes since the last flush: variant 0 has the last one alone,
// others have some by chance, and one is torn.
func (p *replayer) loss(variant int) (d *disk, how string, err error) {
	last := len(p.pending) - 1
	how, torn := "only the last write is there", -1
	keep := func(n int) bool { return n == last }
	if variant > 0 {
		how, torn = "some writes are there, one is torn", p.rng.IntN(last+1)
		keep = func(int) bool { return p.rng.IntN(2) == 0 }
	}
	d, err = p.without(torn, keep)
	return d, fmt.Sprintf("%s (of %d)", how, last+1), err
}

// without makes a disk with some of the writes since the last flush.
func (p *replayer) without(torn int, keep func(n int) bool) (*disk, error) {
	d := newDisk(p.durable, p.rec.Size)
	for n, w := range p.pending {
		if n == torn {
			p.tear(d, w)
		} else if keep(n) {
			if _, err := d.WriteAt(w.Data, w.Off); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// tear writes some of the sectors of a write.
func (p *replayer) tear(d *disk, w entry) {
	for at := 0; at < len(w.Data); at += sector {
		if p.rng.IntN(2) == 0 {
			_, _ = d.WriteAt(w.Data[at:min(at+sector, len(w.Data))], w.Off+int64(at)) // it has been in range before
		}
	}
}

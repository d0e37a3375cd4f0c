package build

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Live draws one bar for each running step on a terminal. Lines of finished steps scroll
// above the bars; cached steps are only counted, and warnings come at the end.
type Live struct {
	pool    *mpb.Progress
	bars    map[string]*bar
	summary summary
}

type bar struct {
	*mpb.Bar
	unit  atomic.Value // string; set by the first progress note
	total atomic.Int64 // 0 while it is not known
	start time.Time
}

var _ Sink = (*Live)(nil)

// NewLive returns a Live that draws on w. Call Close when the build is over.
func NewLive(w io.Writer) *Live {
	return &Live{
		pool: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithAutoRefresh()),
		bars: map[string]*bar{},
	}
}

// Event implements Sink.
func (l *Live) Event(e Event) {
	switch e.Type {
	case Running:
		l.open(e)
	case Progress:
		l.progress(e)
	default:
		l.drop(e)
		for _, line := range l.summary.lines(e) {
			_, _ = l.pool.Write([]byte(line + "\n"))
		}
	}
}

// drop removes the bar of an ended step, and all at the end.
func (l *Live) drop(e Event) {
	if e.Type == Finished {
		l.abort()
	}
	if b := l.bars[e.Step]; b != nil && (e.Type == Done || e.Type == Failed) {
		b.Abort(true)
		b.Wait()
		delete(l.bars, e.Step)
	}
}

func (l *Live) open(e Event) {
	b := &bar{start: e.Time}
	b.Bar = l.pool.AddBar(0,
		mpb.PrependDecorators(decor.Name(e.Step, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS), decor.Any(b.rate), decor.Any(b.left)),
	)
	l.bars[e.Step] = b
}

// rate returns the speed of the step, in its own unit.
func (b *bar) rate(s decor.Statistics) string {
	spent := time.Since(b.start).Seconds()
	if s.Current == 0 || spent <= 0 {
		return ""
	}
	unit, _ := b.unit.Load().(string)
	return "  " + rateText(float64(s.Current)/spent, unit)
}

// left returns how long the rest takes at the speed so far, where all of it is known.
func (b *bar) left(s decor.Statistics) string {
	spent, rest := time.Since(b.start), b.total.Load()-s.Current
	if s.Current == 0 || rest <= 0 {
		return ""
	}
	left := time.Duration(float64(spent) * float64(rest) / float64(s.Current)).Round(time.Second)
	return fmt.Sprintf("  %v left", left)
}

func rateText(perSecond float64, unit string) string {
	if unit == "bytes" {
		return sizeText(int64(perSecond)+1) + "/s"
	}
	return fmt.Sprintf("%.0f %s/s", perSecond, unit)
}

func (l *Live) progress(e Event) {
	b := l.bars[e.Step]
	if b == nil {
		return
	}
	b.unit.Store(e.Unit)
	b.total.Store(e.Total)
	// The bar ends with the step, not when its numbers do.
	b.SetTotal(max(e.Total, e.Done)+1, false)
	b.SetCurrent(e.Done)
}

func (l *Live) abort() {
	for _, b := range l.bars {
		b.Abort(true)
	}
}

// Close removes the bars and waits until the last line is written.
func (l *Live) Close() {
	l.abort()
	l.pool.Shutdown()
}

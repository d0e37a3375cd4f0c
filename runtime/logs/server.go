package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"
)

// Bounds of messages that wait to be written.
const (
	defaultBuf = 128                   // KiB, see Options.Buffer
	minBuf     = 16                    // KiB
	maxBuf     = 4 << 10               // KiB
	maxQueues  = 256                   // platforms; more share one
	maxEarly   = 256 << 10             // bytes kept until the storage is mounted
	keepBuffer = 64 << 10              // a larger buffer is freed when there is little to do
	latency    = 50 * time.Millisecond // longest time of a message in a buffer
	perMessage = 96                    // bytes of a message in addition to its text
	maxName    = 256                   // bytes of a source's name that are kept
)

// Runtime is the platform of the runtime's own messages.
const Runtime = "pantavisor"

const (
	unknownPlatform = "unknown-platform" // of a peer that could not be identified
	ownSource       = "logserver"
)

// Options is the configuration of a [Server].
type Options struct {
	Outputs  Output // 0 means FileTree
	Level    Level  // messages of the runtime above it are dropped, but never FATAL
	Absolute bool   // PV_LOG_TIMESTAMP=absolute: seconds since 1970 instead of since boot

	// Time stamp formats, "golang:NAME", "strftime:FORMAT" or empty. For a format that
	// is not valid the server logs a warning and uses none.
	TreeTime, SingleTime, StdoutTime string

	Buffer     int    // PV_LOG_BUF_NITEMS, KiB; a platform may have twice as much waiting, 0 means 128
	MaxSize    string // PV_LOG_DIR_MAXSIZE; for one that is not valid the server logs a warning and uses 0, automatic
	Hysteresis int    // PV_LOG_HYSTERESIS_FACTOR, 0 means 4
	Rotate     int    // PV_LOG_ROTATE_FACTOR, 0 means 5

	Stdout io.Writer // nil means os.Stdout

	// Identify returns the platform of a peer's process: a container's name, or
	// [Runtime]. With nil every peer is an unknown platform.
	Identify func(pid int) (platform string, err error)
}

// form is the origin of a message, which decides how it is written.
type form uint8

const (
	fromRuntime form = iota // through the Sink interface
	fromMessage             // one message of a container: a newline is added
	fromStream              // bytes of a console or file: written as they are
)

// record is the header of one waiting message; its text is in the queue's buffer.
type record struct {
	source    string
	level     Level
	form      form
	size      int
	sec, nsec int64
	wall      time.Time
	shown     bool // already printed on standard output
}

// stamped returns the header of a message with the current time.
func stamped(source string, level Level, f form) record {
	r := record{source: source, level: level, form: f, wall: time.Now()}
	r.sec, r.nsec = sinceBoot()
	return r
}

// queue holds the waiting messages of one platform. Each has its own bound, so a
// platform that floods the log loses only its own lines.
type queue struct {
	platform string
	text     []byte
	heads    []record
	lost     map[string]int    // lines by source
	names    map[string]string // sources, so that waiting messages share the strings
}

// full reports whether n more bytes exceed the bound. An empty queue takes any message.
func (q *queue) full(n, bound int) bool {
	return len(q.heads) > 0 && len(q.text)+len(q.heads)*perMessage+n+perMessage > bound
}

func (q *queue) lose(source string, n int) {
	if q.lost == nil {
		q.lost = map[string]int{}
	}
	if _, ok := q.lost[source]; !ok && len(q.lost) >= maxSources {
		source = overflowSource
	}
	q.lost[source] += n
}

// name returns a copy of a source's name. The container chooses the name, which may be
// a substring of a much longer message.
func (q *queue) name(source string) string {
	source = source[:min(len(source), maxName)]
	if kept, ok := q.names[source]; ok {
		return kept
	}
	if len(q.names) >= maxSources {
		return overflowSource
	}
	if q.names == nil {
		q.names = map[string]string{}
	}
	source = strings.Clone(source)
	q.names[source] = source
	return source
}

// Server takes messages and writes them to the outputs. One goroutine writes; callers
// that log do not wait for it.
type Server struct {
	mu      sync.Mutex
	o       Options // under mu; without the two that cannot change:
	out     io.Writer
	who     func(pid int) (string, error)
	queues  []*queue
	byName  map[string]*queue
	ended   bool // output for Stdout is written directly
	wake    chan struct{}
	control chan func() // run by the writing goroutine between two rounds
	done    chan struct{}
	stopped chan struct{}
	once    sync.Once

	direct  sync.Mutex // one line at a time on Stdout
	printer *printer
	w       *writer

	subs      subscriptions
	followers followers
}

var _ Sink = (*Server)(nil)

// New starts a server. Until [Server.Open] it keeps the newest messages in memory.
func New(o Options) *Server {
	s := &Server{
		o: o.withDefaults(), out: o.Stdout, who: o.Identify, byName: map[string]*queue{},
		wake: make(chan struct{}, 1), control: make(chan func()),
		done: make(chan struct{}), stopped: make(chan struct{}),
	}
	if s.out == nil {
		s.out = os.Stdout
	}
	s.out = forTerminal(s.out)
	s.printer = newPrinter(s.out)
	s.w = newWriter(s.o, s.printer)
	go s.run()
	s.complain(s.w.takeComplaints())
	return s
}

// withDefaults returns the options that can change while the server runs, in a form
// that can be compared.
func (o Options) withDefaults() Options {
	o.Stdout, o.Identify = nil, nil
	if o.Outputs == 0 {
		o.Outputs = FileTree
	}
	if o.Buffer == 0 {
		o.Buffer = defaultBuf
	}
	o.Buffer = min(max(o.Buffer, minBuf), maxBuf)
	return o
}

func (s *Server) complain(list []error) {
	for _, err := range list {
		s.Log(Runtime, ownSource, Warn, err.Error())
	}
}

// Configure changes the settings; it ignores Stdout and Identify.
func (s *Server) Configure(o Options) {
	o = o.withDefaults()
	s.mu.Lock()
	same := reflect.DeepEqual(o, s.o)
	s.o = o
	s.mu.Unlock()
	if same {
		return
	}
	var complaints []error
	s.do(func() {
		s.mu.Lock()
		last := s.o // of several concurrent calls
		s.mu.Unlock()
		s.w.configure(last)
		complaints = s.w.takeComplaints()
	})
	s.complain(complaints)
}

// Log implements [Sink].
func (s *Server) Log(platform, source string, level Level, msg string) {
	if platform != Runtime {
		s.put(platform, source, level, fromMessage, []byte(msg))
		return
	}
	passes, now := s.allows(level)
	if now {
		s.printNow(source, level, msg)
	}
	if passes {
		s.put(platform, source, level, fromRuntime, []byte(msg))
	}
}

// Relay takes a message that process 1 logged before the server started: at is its time
// since boot, shown reports whether it is already on standard output.
func (s *Server) Relay(source string, level Level, msg string, at time.Duration, shown bool) {
	passes, now := s.allows(level)
	if now && !shown {
		s.printNow(source, level, msg)
	}
	if !passes {
		return
	}
	r := stamped(source, level, fromRuntime)
	r.wall = r.wall.Add(at - time.Duration(r.sec)*time.Second - time.Duration(r.nsec))
	r.sec, r.nsec, r.shown = int64(at/time.Second), int64(at%time.Second), shown
	s.queue(Runtime, r, []byte(msg[:min(len(msg), maxMessage)]), true)
}

// allows reports whether a message of the runtime passes, and whether it is printed at
// once. Messages are printed at once with stdout_direct, at level FATAL, and after the
// server's end when standard output is an output.
func (s *Server) allows(level Level) (passes, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	passes = level == Fatal || level <= s.o.Level
	direct := s.o.Outputs&StdoutDirect != 0 || s.ended && s.o.Outputs&(Stdout|StdoutPantavisor) != 0
	return passes, passes && (level == Fatal || direct)
}

func (s *Server) printNow(source string, level Level, msg string) {
	sec, _ := sinceBoot()
	s.direct.Lock()
	defer s.direct.Unlock()
	_, _ = s.out.Write(appendLine(nil, Runtime, source, level, sec, "", msg))
}

// put queues a message of at most maxMessage bytes, or counts it as lost.
func (s *Server) put(platform, source string, level Level, f form, text []byte) {
	s.queue(platform, stamped(source, level, f), text[:min(len(text), maxMessage)], true)
}

// offer is [Server.put] for callers that can wait; it returns false when the queue is
// full.
func (s *Server) offer(platform, source string, level Level, f form, text []byte) bool {
	return s.queue(platform, stamped(source, level, f), text, false)
}

func (s *Server) queue(platform string, r record, text []byte, lose bool) bool {
	r.size = len(text)
	if !s.enter(platform, r, text, lose) {
		return false
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// enter puts a message into its platform's queue. With lose, it counts the message as
// lost when the queue is full.
func (s *Server) enter(platform string, r record, text []byte, lose bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Absolute {
		r.sec, r.nsec = r.wall.Unix(), int64(r.wall.Nanosecond())
	}
	q := s.queueOf(platform)
	r.source = q.name(r.source)
	if q.full(len(text), 2*s.o.Buffer<<10) {
		if lose {
			q.lose(r.source, lines(text, r.form))
		}
		return false
	}
	q.text = append(q.text, text...)
	q.heads = append(q.heads, r)
	return true
}

// lines returns how many lines a message counts for.
func lines(text []byte, f form) int {
	if f == fromStream {
		return max(bytes.Count(text, []byte("\n")), 1)
	}
	return 1
}

func (s *Server) queueOf(platform string) *queue {
	if q := s.byName[platform]; q != nil {
		return q
	}
	if len(s.queues) >= maxQueues {
		platform = unknownPlatform
		if q := s.byName[platform]; q != nil {
			return q
		}
	}
	q := &queue{platform: strings.Clone(platform)}
	s.byName[q.platform] = q
	s.queues = append(s.queues, q)
	return q
}

// run is the writing goroutine.
func (s *Server) run() {
	defer close(s.stopped)
	late := time.NewTimer(time.Hour)
	late.Stop()
	armed := false
	for {
		select {
		case <-s.wake:
			s.round()
			if !armed && s.w.dirty() {
				late.Reset(latency)
				armed = true
			}
		case <-late.C:
			armed = false
			s.w.flush()
		case f := <-s.control:
			s.round()
			f()
		case <-s.done:
			s.round()
			s.w.close()
			return
		}
	}
}

// round writes what each queue holds, one queue after the other, until all are empty.
func (s *Server) round() {
	for any := true; any; {
		any = false
		for i := 0; ; i++ {
			work, ok := s.take(i)
			if !ok {
				break
			}
			if len(work.heads) > 0 || len(work.lost) > 0 {
				any = true
				s.write(work)
			}
		}
	}
}

// take returns a queue's content and leaves empty buffers in it.
func (s *Server) take(i int) (work queue, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.queues) {
		return queue{}, false
	}
	q := s.queues[i]
	if len(q.heads) == 0 && len(q.lost) == 0 {
		return queue{}, true
	}
	work = *q
	q.text, q.heads, q.lost = s.w.spareText, s.w.spareHeads, nil
	s.w.spareText, s.w.spareHeads = nil, nil
	return work, true
}

func (s *Server) write(work queue) {
	text := work.text
	for i := range work.heads {
		n := work.heads[i].size
		s.w.message(work.platform, &work.heads[i], text[:n])
		text = text[n:]
	}
	s.reportLost(&work)
	clear(work.heads)
	if cap(work.text) <= keepBuffer || len(work.text) > keepBuffer/2 {
		s.w.spareText, s.w.spareHeads = work.text[:0], work.heads[:0]
	}
}

// reportLost logs how many lines were lost, in the files of these lines and in the
// runtime's own log.
func (s *Server) reportLost(work *queue) {
	if len(work.lost) == 0 {
		return
	}
	now := record{level: Warn, wall: time.Now()}
	now.sec, now.nsec = sinceBoot()
	total := 0
	for source, n := range work.lost {
		total += n
		note := now
		note.source, note.form = source, fromMessage
		if work.platform == Runtime {
			note.form = fromRuntime
		}
		s.w.message(work.platform, &note, fmt.Appendf(nil, "-- %d lines lost here: they came faster than they could be stored --", n))
	}
	now.source = ownSource
	s.w.message(Runtime, &now, fmt.Appendf(nil, "%s lost %d lines: they came faster than they could be stored", work.platform, total))
}

// do runs f in the writing goroutine after it has written all earlier messages.
func (s *Server) do(f func()) bool {
	ran := make(chan struct{})
	select {
	case s.control <- func() { f(); close(ran) }:
		<-ran
		return true
	case <-s.stopped:
		return false
	}
}

// Open starts writing files below dir for a revision, beginning with the kept messages.
func (s *Server) Open(dir, revision string) error {
	err := os.ErrClosed
	s.do(func() { err = s.w.open(dir, revision) })
	if err != nil {
		return fmt.Errorf("opening the log directory: %w", err)
	}
	for _, c := range s.w.takeComplaints() {
		s.Log(Runtime, ownSource, Warn, c.Error())
	}
	return nil
}

// SetRevision continues in the directory of another revision.
func (s *Server) SetRevision(revision string) error {
	err := os.ErrClosed
	s.do(func() { err = s.w.setRevision(revision) })
	if err != nil {
		return fmt.Errorf("logging for revision %s: %w", revision, err)
	}
	return nil
}

// StartUpdateLog writes messages of level ERROR and FATAL, of all platforms, to
// dir/logs.tmp.
func (s *Server) StartUpdateLog(dir string) error {
	err := os.ErrClosed
	s.do(func() { err = s.w.startUpdate(dir) })
	if err != nil {
		return fmt.Errorf("starting the log of an update: %w", err)
	}
	return nil
}

// StopUpdateLog renames the log of an update to dir/logs.
func (s *Server) StopUpdateLog() error {
	err := os.ErrClosed
	s.do(func() { err = s.w.stopUpdate() })
	if err != nil {
		return fmt.Errorf("ending the log of an update: %w", err)
	}
	return nil
}

// Limit sets the size in bytes at which the file of a platform's source is rotated, if
// that is less than the size by PV_LOG_ROTATE_FACTOR; 0 removes the limit. It takes
// effect only after [Server.Open].
func (s *Server) Limit(platform, source string, size int64) {
	s.do(func() {
		if s.w.tree != nil {
			s.w.tree.setLimit(platform, source, size)
		}
	})
}

// Flush returns when all earlier messages are in the files.
func (s *Server) Flush() {
	s.do(s.w.flush)
	s.printer.drain()
}

// Close writes waiting messages, ends subscriptions and stops the server. Later messages
// are lost, except those for standard output, which are printed directly.
func (s *Server) Close() {
	s.once.Do(func() {
		s.followers.closeAll()
		s.subs.closeAll()
		close(s.done)
		<-s.stopped
		s.printer.close()
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
	})
}

package ctrl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/peer"
	"github.com/pantavisor/pantavisor/runtime/space"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/verified"
)

// Time limits of a client. The connection of a slower client is closed.
const (
	idleTimeout  = 60 * time.Second // between two requests
	headTimeout  = 10 * time.Second // for the head, from its first byte
	bodyTimeout  = 30 * time.Second // for each piece of the body
	writeTimeout = 30 * time.Second // for each piece of the answer
)

// Bounds of what is read and discarded to keep a connection usable after an answer that
// was sent before the end of the body.
const (
	maxDrain     = 64 << 10
	drainTimeout = time.Second
)

const (
	socketMode    = 0o666 // who may do what is decided by caller, not by file mode
	socketBacklog = 64
)

// Options is what a [Server] serves. Resolve, Engine, Daemons, UserMeta, DeviceMeta,
// Objects and Steps are required.
type Options struct {
	// Resolve identifies the caller with this process ID.
	Resolve    func(pid int) (Caller, error)
	Engine     Engine
	Daemons    Daemons
	UserMeta   Meta
	DeviceMeta Meta

	// Objects is the directory of the object store.
	Objects string
	// Space is where uploads reserve their space; nil reserves without a share that is
	// kept free.
	Space *space.Ledger
	// Verified are the objects that need not be hashed; nil knows none.
	Verified *verified.Marks
	// Steps has the revisions.
	Steps *step.Store
	// CheckStep checks a state before it becomes a step: rev is its name, state its
	// JSON text. A *api.Error is the answer; any other error is answered with 422
	// and "Parser: State JSON has bad format". Nil accepts any JSON object with the
	// known "#spec".
	CheckStep func(rev string, state []byte) error
	// StepInUse reports whether a step must not be replaced now, because it runs or
	// is being installed. Nil protects the running step of the store only.
	StepInUse func(rev string) bool
	// ObjectStored is called for every object that was stored, so that garbage
	// collection can be deferred. May be nil.
	ObjectStored func(sha string)

	// Updates are the device's updates; nil answers 501.
	Updates Updates

	// Logs is the directory of the log files of all revisions; "" lists none.
	Logs string
	// Config lists the settings, in the order of the manual's table. May be nil.
	Config func() []Setting
	// Drivers are the managed drivers; nil means that there are none.
	Drivers Drivers
	// Graph writes the JSON array of GET /xconnect-graph; nil means an empty graph.
	Graph func(w io.Writer) error
	// Wakelocks returns the body of GET /wakelocks; nil answers 501.
	Wakelocks func() api.Wakelocks
	// CollectGarbage frees storage and returns the bytes freed; nil answers 501.
	CollectGarbage func(ctx context.Context) (int64, error)
	// BuildInfo is the text of GET /buildinfo; when empty, /etc/build is shown.
	BuildInfo string

	Log logs.Logger
}

// Setting is one configuration value, as /config and /config2 show it.
type Setting struct {
	Key    string // "PV_LOG_LEVEL"
	Alias  string // old dotted key, "log.level"; empty when it has none
	Value  any    // string, bool, an integer, or nil when unset: the value under the alias
	Text   string // the value in /config2; ignored when Value is nil
	Level  string // where it came from, "default", "env", ...
	Secret bool   // shown masked
	Note   string // what people should know about it, in /config2
}

// Drivers are the managed drivers that containers refer to.
type Drivers interface {
	List(container string) ([]api.Driver, error)
	// Load and Unload act on the container's MANUAL drivers; an empty name means all.
	Load(container, name string) error
	Unload(container, name string) error
}

// Server answers the control API.
type Server struct {
	o      Options
	routes []route
	guard  peer.Guard
	serial serial
	listed atomic.Pointer[listing] // the last answer to GET /containers
}

// serial makes requests that check and write steps run one after the other, and bounds
// how many of their bodies, which are the largest of all, are in memory.
type serial struct {
	steps sync.Mutex
	room  room
	sbom  sync.Mutex // held while a bill of materials is written
}

// New returns a server; it opens nothing yet.
func New(o Options) *Server {
	s := &Server{o: o}
	if s.o.Space == nil {
		s.o.Space = space.NewLedger(func() (space.Usage, error) { return space.Of(filepath.Dir(s.o.Objects), 0) })
	}
	if s.o.Verified == nil {
		s.o.Verified = new(verified.Marks)
	}
	s.routes = routes(s)
	return s
}

// Listen makes the socket, so that it exists when containers start; serve then answers
// on it until ctx ends. Every connection has its own goroutine; the caller is identified by
// the cgroup of the process that connected.
func (s *Server) Listen(socketPath string) (serve func(context.Context) error, err error) {
	l, err := peer.Listen(socketPath, socketMode, socketBacklog)
	if err != nil {
		return nil, fmt.Errorf("serving the control socket: %w", err)
	}
	return func(ctx context.Context) error { return s.serve(ctx, l) }, nil
}

// lastAnswers is the time for requests in progress when the server ends: a client that
// asks for a reboot gets its answer.
const lastAnswers = time.Second

func (s *Server) serve(ctx context.Context, l *peer.Listener) error {
	var open sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		s.guard.Drain(lastAnswers)
	})
	defer stop()
	defer open.Wait()
	defer s.guard.Drain(lastAnswers)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, os.ErrClosed):
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil:
			s.o.Log.Errorf("control socket: %v", err)
			if !pause(ctx, 100*time.Millisecond) {
				return nil
			}
			continue
		}
		s.admit(ctx, conn, &open)
	}
}

// pause waits before the next attempt when accept fails, for example when the process
// has no file descriptors left, so that the loop does not use all processor time.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (s *Server) admit(ctx context.Context, conn *peer.Conn, open *sync.WaitGroup) {
	caller, err := peer.Identify(conn, s.o.Resolve)
	key := caller.Name
	if err != nil {
		s.o.Log.Debugf("control socket: %v", err)
		key = "?"
	}
	slot := s.guard.Admit(key, conn)
	if slot == nil {
		return
	}
	open.Go(func() {
		defer slot.Release()
		defer conn.Close()
		s.talk(ctx, conn, &session{caller: caller, known: err == nil, slot: slot})
	})
}

// ServeConn answers the requests on another transport until it ends or ctx does, and
// closes it. The transport determines the caller.
func (s *Server) ServeConn(ctx context.Context, rwc io.ReadWriteCloser, caller Caller) {
	stop := context.AfterFunc(ctx, func() { _ = rwc.Close() })
	defer stop()
	defer rwc.Close()
	s.talk(ctx, rwc, &session{caller: caller, known: true})
}

// session is the state of one connection.
type session struct {
	caller Caller
	known  bool       // the caller could be identified
	slot   *peer.Slot // nil for other transports
}

func (c *session) busy() {
	if c.slot != nil {
		c.slot.Busy()
	}
}

// waiting marks the connection as waiting for its client: another connection may then
// replace it.
func (c *session) waiting() {
	if c.slot != nil {
		c.slot.Waiting()
	}
}

func (c *session) idle() {
	if c.slot != nil {
		c.slot.Idle()
	}
}

// timed reads and writes with a deadline for each piece.
type timed struct {
	rw    io.ReadWriter
	limit http1.Deadliner // nil when the transport has no deadlines
	read  time.Duration
	until time.Time // deadline of the whole head; zero for a deadline for each piece
	moved func()    // called before each piece of an answer is sent
}

// Read implements io.Reader.
func (p *timed) Read(b []byte) (int, error) {
	if p.limit != nil {
		t := p.until
		if t.IsZero() {
			t = time.Now().Add(p.read)
		}
		_ = p.limit.SetReadDeadline(t)
	}
	return p.rw.Read(b)
}

// Write implements io.Writer.
func (p *timed) Write(b []byte) (int, error) {
	p.moved()
	if p.limit != nil {
		_ = p.limit.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	return p.rw.Write(b)
}

func (s *Server) talk(ctx context.Context, rw io.ReadWriter, c *session) {
	p := &timed{rw: rw, moved: c.waiting}
	p.limit, _ = rw.(http1.Deadliner)
	b := buffers.Get().(*buffered)
	b.r.Reset(p)
	b.w.Reset(p)
	for s.one(ctx, p, &b.r, &b.w, c) {
	}
	b.r.Reset(nil)
	b.w.Reset(nil)
	buffers.Put(b)
}

// buffers are reused by later connections: most clients use a connection for each request,
// and allocating 8 KiB for each would keep the Go garbage collector busy.
var buffers = sync.Pool{New: func() any { return &buffered{*bufio.NewReader(nil), *bufio.NewWriter(nil)} }}

type buffered struct {
	r bufio.Reader
	w bufio.Writer
}

// one answers one request and reports whether another may follow.
func (s *Server) one(ctx context.Context, p *timed, r *bufio.Reader, w *bufio.Writer, c *session) bool {
	c.idle()
	p.read = idleTimeout
	if _, err := r.Peek(1); err != nil {
		return false
	}
	p.until = time.Now().Add(headTimeout)
	req, err := readRequest(r)
	p.until = time.Time{}
	if err != nil {
		return s.refuse(err, w, req)
	}
	c.busy()
	p.read = bodyTimeout
	b := http1.NewBody(r, &req.Head, continuer(req, w))
	answer := s.answer(ctx, &call{server: s, session: c, req: req, body: b})
	if answer.drop {
		return false
	}
	late := !b.Done() && !drainable(b)
	answer.close = answer.close || late
	again, err := answer.write(w, req, time.Now())
	if err != nil {
		s.o.Log.Debugf("control socket: answering %s %s: %v", req.method, http1.Clip(req.target), err)
		return false
	}
	return s.drain(p, b) && again
}

// continuer returns a function that tells the client to send its body.
func continuer(req *request, w *bufio.Writer) func() error {
	if !req.Expect || req.Minor == 0 {
		return nil
	}
	return func() error {
		_, _ = w.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
		return w.Flush()
	}
}

// refuse answers input that could not be read as a request.
func (s *Server) refuse(err error, w *bufio.Writer, req *request) bool {
	switch {
	case errors.Is(err, errMethod):
		_, _ = unsupported(501).write(w, req, time.Now())
	case errors.Is(err, http1.ErrProtocol):
		_, _ = unsupported(400).write(w, nil, time.Now())
	}
	return false
}

// drainable reports whether to read the rest of the body in order to keep the
// connection. A client that waits for 100 Continue will not send it.
func drainable(b *http1.Body) bool {
	return !b.Untouched() && b.Left() >= 0 && b.Left() <= maxDrain
}

// drain reads the rest of a body after its answer, within bounds: closing a socket with
// unread bytes may lose the answer.
func (s *Server) drain(p *timed, b *http1.Body) bool {
	if b.Done() {
		return true
	}
	if b.Untouched() {
		return false
	}
	p.until = time.Now().Add(drainTimeout)
	_, err := io.Copy(io.Discard, io.LimitReader(b, maxDrain))
	p.until = time.Time{}
	return err == nil && b.Done()
}

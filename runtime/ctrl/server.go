package ctrl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/peer"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// Time a client has. A client that is slower loses its connection; nobody else notices.
const (
	idleTimeout  = 60 * time.Second // between two requests
	headTimeout  = 10 * time.Second // for the head, from its first byte
	bodyTimeout  = 30 * time.Second // for each piece of the body
	writeTimeout = 30 * time.Second // for each piece of the answer
)

// Bounds of what is read and thrown away to keep a connection usable after an
// answer that came before the end of the body.
const (
	maxDrain     = 64 << 10
	drainTimeout = time.Second
)

const (
	socketMode    = 0o666 // who may do what is decided by caller, not by file mode
	socketBacklog = 64
)

// Options is what a [Server] serves. Resolve, Engine, Daemons, UserMeta, DeviceMeta,
// Objects and Steps are needed; the rest may be absent, and its endpoints then say so.
type Options struct {
	// Resolve names the caller with this process ID, or fails.
	Resolve    func(pid int) (Caller, error)
	Engine     Engine
	Daemons    Daemons
	UserMeta   Meta
	DeviceMeta Meta

	// Objects is the directory of the object store.
	Objects string
	// Steps has the revisions.
	Steps *step.Store
	// CheckStep judges a state before it becomes a step: rev is its name, state its
	// JSON text. A *api.Error decides the answer; any other error is answered with 422
	// and "Parser: State JSON has bad format". Nil accepts any JSON object with the
	// known "#spec".
	CheckStep func(rev string, state []byte) error
	// StepInUse reports whether a step must not be replaced now, because it runs or
	// is being installed. Nil protects the step that the store says is running.
	StepInUse func(rev string) bool
	// ObjectStored is told of every object that arrived, so that garbage collection
	// can be put off. May be nil.
	ObjectStored func(sha string)

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

// Setting is one configuration value, of which /config and /config2 show a part each.
type Setting struct {
	Key    string // "PV_LOG_LEVEL"
	Alias  string // old dotted key, "log.level"; empty when it has none
	Value  any    // string, bool, an integer, or nil when unset: the value under the alias
	Text   string // the value in /config2; ignored when Value is nil
	Level  string // where it came from, "default", "env", ...
	Secret bool   // shown masked
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

// serial lets requests that judge and write steps follow one another, and bounds how
// many of their bodies, the largest there are, are in memory.
type serial struct {
	steps  sync.Mutex
	bodies atomic.Int32
}

// maxSteps is how many steps may be sent at the same time.
const maxSteps = 4

// admit takes a place for a step's body; false when there is none.
func (s *serial) admit() (release func(), ok bool) {
	if s.bodies.Add(1) > maxSteps {
		s.bodies.Add(-1)
		return nil, false
	}
	return func() { s.bodies.Add(-1) }, true
}

// New returns a server; it opens nothing yet.
func New(o Options) *Server {
	s := &Server{o: o}
	s.routes = routes(s)
	return s
}

// Serve listens on socketPath and answers until ctx ends. Every connection has
// its own goroutine; the caller is who connected, by its cgroup.
func (s *Server) Serve(ctx context.Context, socketPath string) error {
	serve, err := s.Listen(socketPath)
	if err != nil {
		return err
	}
	return serve(ctx)
}

// Listen makes the socket, so that it is there when containers start; serve does what
// [Server.Serve] does from then on.
func (s *Server) Listen(socketPath string) (serve func(context.Context) error, err error) {
	l, err := peer.Listen(socketPath, socketMode, socketBacklog)
	if err != nil {
		return nil, fmt.Errorf("serving the control socket: %w", err)
	}
	return func(ctx context.Context) error { return s.serve(ctx, l) }, nil
}

// lastAnswers is the time for requests under way when the server ends: who asks for
// a reboot gets his answer.
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

// pause waits before the next try when accepting fails, for example for want of
// descriptors, so that the processor is left to those who could free some.
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

// ServeConn answers the requests that come over another transport until it ends
// or ctx does, and closes it. The transport vouches for the caller.
func (s *Server) ServeConn(ctx context.Context, rwc io.ReadWriteCloser, caller Caller) {
	stop := context.AfterFunc(ctx, func() { _ = rwc.Close() })
	defer stop()
	defer rwc.Close()
	s.talk(ctx, rwc, &session{caller: caller, known: true})
}

// session is what is known of one connection.
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

// waiting is for the time in which the client must do something: its place may be
// taken by another.
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

// patient reads and writes with a deadline for each piece.
type patient struct {
	rw    io.ReadWriter
	limit http1.Deadliner // nil when the transport has no deadlines
	read  time.Duration
	until time.Time // of the whole head; zero when each piece counts for itself
	moved func()    // told of each piece of an answer that is to be sent
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
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
func (p *patient) Write(b []byte) (int, error) {
	p.moved()
	if p.limit != nil {
		_ = p.limit.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	return p.rw.Write(b)
}

func (s *Server) talk(ctx context.Context, rw io.ReadWriter, c *session) {
	p := &patient{rw: rw, moved: c.waiting}
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

// buffers are those of connections that ended, for others: 8 KiB for each request over
// a connection of its own would keep the collector busy.
var buffers = sync.Pool{New: func() any { return &buffered{*bufio.NewReader(nil), *bufio.NewWriter(nil)} }}

type buffered struct {
	r bufio.Reader
	w bufio.Writer
}

// one answers one request and reports whether another may follow.
func (s *Server) one(ctx context.Context, p *patient, r *bufio.Reader, w *bufio.Writer, c *session) bool {
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

// continuer returns what tells the client to send its body, once it is wanted.
func continuer(req *request, w *bufio.Writer) func() error {
	if !req.Expect || req.Minor == 0 {
		return nil
	}
	return func() error {
		_, _ = w.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
		return w.Flush()
	}
}

// refuse answers what could not be read as a request.
func (s *Server) refuse(err error, w *bufio.Writer, req *request) bool {
	switch {
	case errors.Is(err, errMethod):
		_, _ = unsupported(501).write(w, req, time.Now())
	case errors.Is(err, http1.ErrProtocol):
		_, _ = unsupported(400).write(w, nil, time.Now())
	}
	return false
}

// drainable reports whether the rest of the body is worth reading for the sake
// of the connection. A client that waits for 100 Continue will not send it.
func drainable(b *http1.Body) bool {
	return !b.Untouched() && b.Left() >= 0 && b.Left() <= maxDrain
}

// drain reads what is left of a body after its answer, within bounds: a socket
// that is closed with unread bytes may lose the answer on the way.
func (s *Server) drain(p *patient, b *http1.Body) bool {
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

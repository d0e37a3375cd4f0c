// Package web is a device's web server, which runs in a container with the role mgmt
// (docs/web.md). It serves
//
//	/cgi-bin/pvtx/   transactions and metadata (manual: pvtx REST API)
//	/cgi-bin/pvr/    the repository for pvr clone and pvr post of the device's address
//	/cgi-bin/logs    logs, also as they are written
//	/app/            a page for people that uses these, and /app/api/ for what they lack
//
// The server keeps nothing: transactions are those of package pvtx, all else is asked of
// the control socket. Packages and objects pass through it in pieces.
//
// What the server does changes the device, so it listens on the loopback interface unless
// the configuration names another address, and a request from a page of another site is
// rejected, see [Server.guard].
package web

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
)

// Options are what a server works with.
type Options struct {
	// Device is the client of the control socket.
	Device *client.Client
	// Transaction is the one that requests change.
	Transaction *pvtx.Transaction
	// Logs is the directory of the device's logs (docs/logs.md).
	Logs string
	// Token, unless empty, is what requests must have: as a bearer token, or the page's
	// cookie.
	Token string
	// Hosts are names of the device in a Host header besides localhost, names below
	// .local, and addresses. Names are in lower case and without a port.
	Hosts []string
	// Warnings are what the page shows, one sentence each.
	Warnings []string
	// Log takes messages for people.
	Log *log.Logger
}

// Server is a web server.
type Server struct {
	o        Options
	sessions *signer // of cookies and of the URLs of objects
	mux      *http.ServeMux
	origin   *http.CrossOriginProtection
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{o: o, sessions: newSigner(o.Token), mux: http.NewServeMux(), origin: http.NewCrossOriginProtection()}
	s.transactions()
	s.metadata()
	s.repository()
	s.logs()
	s.page()
	return s
}

// Handler returns what answers requests.
func (s *Server) Handler() http.Handler { return s.guard(s.mux) }

// Bounds of connections. A transfer has no bound but that it must not stand still.
const (
	maxConnections = 64
	headTime       = 10 * time.Second
	idleTime       = time.Minute
	stallTime      = time.Minute
	maxHead        = 16 << 10
	endTime        = 5 * time.Second // for requests in progress when the server stops
)

// Serve answers the connections of a listener, which it closes, until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHead,
		ErrorLog: s.o.Log, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		if h.Shutdown(end) != nil {
			_ = h.Close()
		}
	})
	defer stop()
	if err := h.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	}
	return nil
}

// revisionName is the running revision where a request names none.
const revisionName = "current"

// revision returns the revision that a request names.
func revision(r *http.Request) string {
	if rev := strings.TrimSpace(r.URL.Query().Get("rev")); rev != "" {
		return rev
	}
	return revisionName
}

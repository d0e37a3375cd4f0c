package ctrl

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
)

// The largest body of each endpoint, in bytes.
const (
	limitAction    = 1024
	limitCommand   = 4096
	limitMeta      = 4096
	limitCommitMsg = 256
)

const (
	textMethod   = "Method not supported for this endpoint"
	textTooLarge = "Not enough disk space available"
)

// route is one method on one path. A path without "{}" is compared after
// percent-decoding and without the query. In a path with "{}" each "{}" matches one
// segment as sent, not decoded.
type route struct {
	method string
	path   string
	handle func(c *call) *reply
	open   bool // to every container; other routes need the role mgmt
	// masked answers a caller without the role mgmt as if the method did not exist, as
	// existing clients expect of the paths with two methods.
	masked bool
}

func (r *route) exact() bool { return !strings.Contains(r.path, "{}") }

func routes(s *Server) []route {
	return []route{
		{method: "GET", path: "/containers", handle: s.listContainers},
		{method: "PUT", path: "/containers/{}", handle: s.actOnContainer},
		{method: "GET", path: "/groups", handle: s.listGroups},
		{method: "GET", path: "/daemons", handle: s.listDaemons},
		{method: "PUT", path: "/daemons/{}", handle: s.actOnDaemon},
		{method: "POST", path: "/signal", handle: s.signal, open: true},
		{method: "POST", path: "/commands", handle: s.command},
		{method: "GET", path: "/objects", handle: s.listObjects},
		{method: "GET", path: "/objects/{}", handle: s.getObject, masked: true},
		{method: "PUT", path: "/objects/{}", handle: s.putObject},
		{method: "PUT", path: "/holds/{}", handle: s.putHold},
		{method: "DELETE", path: "/holds/{}", handle: s.deleteHold},
		{method: "GET", path: "/steps", handle: s.listSteps},
		{method: "GET", path: "/steps/locals/{}", handle: s.getStep},
		{method: "PUT", path: "/steps/locals/{}", handle: s.putStep, masked: true},
		{method: "GET", path: "/steps/{}/progress", handle: s.getProgress},
		{method: "GET", path: "/steps/locals/{}/progress", handle: s.getProgress},
		{method: "GET", path: "/steps/locals/{}/sbom", handle: s.stepSBOM},
		{method: "GET", path: "/steps/locals/{}/sbom/{}", handle: s.stepSBOM},
		{method: "GET", path: "/steps/{}/sbom", handle: s.stepSBOM},
		{method: "GET", path: "/steps/{}/sbom/{}", handle: s.stepSBOM},
		{method: "PUT", path: "/steps/{}/commitmsg", handle: s.putCommitMsg},
		{method: "PUT", path: "/steps/locals/{}/commitmsg", handle: s.putCommitMsg},
		{method: "GET", path: "/steps/{}", handle: s.getStep},
		{method: "GET", path: "/updates", handle: s.listUpdates},
		{method: "POST", path: "/updates", handle: s.startUpdate},
		{method: "POST", path: "/updates/check", handle: s.checkState},
		{method: "GET", path: "/updates/check/{}", handle: s.checkStored},
		{method: "GET", path: "/updates/check/locals/{}", handle: s.checkStored},
		{method: "GET", path: "/updates/locals/{}", handle: s.getUpdate},
		{method: "DELETE", path: "/updates/locals/{}", handle: s.cancelUpdate},
		{method: "GET", path: "/updates/{}", handle: s.getUpdate},
		{method: "DELETE", path: "/updates/{}", handle: s.cancelUpdate},
		{method: "GET", path: "/user-meta", handle: func(*call) *reply { return listMeta(s.o.UserMeta) }},
		{method: "PUT", path: "/user-meta/{}", handle: s.setUserMeta},
		{method: "PUT", path: "/user-meta/{}/{}", handle: s.setContainerMeta},
		{method: "DELETE", path: "/user-meta/{}", handle: s.deleteUserMeta, masked: true},
		{method: "DELETE", path: "/user-meta/{}/{}", handle: s.deleteUserMeta, masked: true},
		{method: "GET", path: "/device-meta", handle: func(*call) *reply { return listMeta(s.o.DeviceMeta) }},
		{method: "PUT", path: "/device-meta/{}", handle: func(c *call) *reply { return setMeta(c, s.o.DeviceMeta, "device") }},
		{method: "DELETE", path: "/device-meta/{}", handle: func(c *call) *reply { return deleteMeta(c, s.o.DeviceMeta, "Device") }, masked: true},
		{method: "GET", path: "/buildinfo", handle: s.buildInfo},
		{method: "GET", path: "/sbom", handle: s.runningSBOM},
		{method: "GET", path: "/sbom/{}", handle: s.runningSBOM},
		{method: "GET", path: "/logs", handle: s.listLogs},
		{method: "GET", path: "/logs/{}", handle: s.getLog},
		{method: "GET", path: "/drivers", handle: s.listDrivers},
		{method: "PUT", path: "/drivers/load", handle: s.loadDrivers},
		{method: "PUT", path: "/drivers/unload", handle: s.unloadDrivers},
		{method: "PUT", path: "/drivers/{}/load", handle: s.loadDrivers},
		{method: "PUT", path: "/drivers/{}/unload", handle: s.unloadDrivers},
		{method: "GET", path: "/config", handle: s.configOld},
		{method: "GET", path: "/config2", handle: s.configNew},
		{method: "GET", path: "/xconnect-graph", handle: s.graph},
		{method: "GET", path: "/wakelocks", handle: s.wakelocks},
		{method: "POST", path: "/storage/gc", handle: s.collectGarbage},
	}
}

// call is one request as a handler gets it.
type call struct {
	*session
	server *Server
	req    *request
	body   *http1.Body
	ctx    context.Context
	parts  []string // the path's segments as sent
	names  []string // the segment for each "{}"
}

// name returns the segment for the first "{}"; "" on an exact path.
func (c *call) name() string {
	if len(c.names) == 0 {
		return ""
	}
	return c.names[0]
}

// content reads the body. When that fails it returns the answer.
func (c *call) content(limit int64) ([]byte, *reply) {
	c.waiting()
	text, err := c.body.All(limit)
	c.busy()
	switch {
	case err == nil:
		return text, nil
	case errors.Is(err, http1.ErrTooLarge):
		return nil, failure(507, textTooLarge)
	}
	return nil, brokenBody(err)
}

// brokenBody answers a body that could not be read as announced.
func brokenBody(err error) *reply {
	if errors.Is(err, http1.ErrProtocol) {
		return unsupported(400)
	}
	return &reply{drop: true}
}

// answer finds the route, checks the caller and calls the handler.
func (s *Server) answer(ctx context.Context, c *call) *reply {
	c.ctx = ctx
	path, foreign := splitTarget(c.req.target)
	switch {
	case foreign: // as existing devices do
		return &reply{drop: true}
	case !localHost(c.req.Host):
		return failure(421, textForeign)
	}
	r, known := s.find(c, path)
	switch {
	case !known:
		return c.unknownEndpoint()
	case r == nil:
		return failure(400, textMethod)
	case !c.known && r.exact():
		return failure(500, "Internal Error")
	case !c.known:
		return failure(500, "Internal error, unknown caller")
	case r.open || c.caller.Mgmt:
		return r.handle(c)
	case r.masked:
		return failure(400, textMethod)
	case r.exact():
		return failure(403, "Request not sent from a mgmt platform")
	}
	return failure(403, "Request not sent from mgmt platform")
}

func (c *call) unknownEndpoint() *reply {
	return failure(400, "unknown endpoint: "+strings.ToValidUTF8(c.req.target, "\ufffd"))
}

// splitTarget returns the path of a target; foreign means that the target names another
// host, as "//name" does too.
func splitTarget(target string) (path string, foreign bool) {
	rest, absolute := strings.CutPrefix(target, "http:")
	if !absolute {
		rest = target
	}
	authority, found := strings.CutPrefix(rest, "//")
	if !found {
		return rest, false
	}
	host, path := authority, "/"
	if i := strings.IndexByte(authority, '/'); i >= 0 {
		host, path = authority[:i], authority[i:]
	}
	return path, !localHost(host)
}

// textForeign is the answer to a request for another host.
const textForeign = "This socket answers for localhost only; the request names another host"

// placeholders are host names that clients of unix sockets send where there is no host,
// as in curl's http://d/ and http://unix/.
var placeholders = []string{"", "localhost", "unix", "socket", "docker", "pv-ctrl", "pantavisor"}

// localHost reports whether a Host header means this socket: localhost, an address of
// the loopback, a placeholder, a single letter, or the path of the socket in percent
// encoding, as Python's requests-unixsocket sends it. Any other name may come from a
// browser that was led here (DNS rebinding).
func localHost(host string) bool {
	name := strings.ToLower(host)
	if ip, err := netip.ParseAddrPort(name); err == nil {
		return ip.Addr().IsLoopback()
	}
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ip.IsLoopback()
	}
	name, _, _ = strings.Cut(name, ":")
	return slices.Contains(placeholders, name) || strings.HasPrefix(name, "%2f") || len(name) == 1 && name[0] >= 'a' && name[0] <= 'z'
}

// find returns the route of a request; known without a route means that the path has
// other methods.
func (s *Server) find(c *call, path string) (found *route, known bool) {
	plain, valid := decode(path)
	c.parts = segments(path)
	for i := range s.routes {
		r := &s.routes[i]
		names, fits := r.fits(plain, valid, c.parts)
		if !fits {
			continue
		}
		known = true
		if r.method == c.req.method {
			c.names = names
			return r, true
		}
	}
	return nil, known
}

func (r *route) fits(plain string, valid bool, parts []string) (names []string, ok bool) {
	if r.exact() {
		return nil, valid && r.path == plain
	}
	return match(segments(r.path), parts)
}

// decode decodes the percent-encoding of the path without query and fragment. ok is
// false when the encoding is invalid or the result is not UTF-8.
func decode(path string) (string, bool) {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' {
			if i+2 >= len(path) {
				return "", false
			}
			n, err := strconv.ParseUint(path[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c, i = byte(n), i+2
		}
		b.WriteByte(c)
	}
	return b.String(), utf8.ValidString(b.String())
}

func segments(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

// match compares segments; names are those that match a "{}".
func match(pattern, parts []string) (names []string, ok bool) {
	if len(pattern) != len(parts) {
		return nil, false
	}
	for i, p := range pattern {
		switch {
		case p == "{}":
			names = append(names, parts[i])
		case p != parts[i]:
			return nil, false
		}
	}
	return names, true
}

// written answers with the output of write, or with its error.
func written(write func(w io.Writer) error) *reply {
	var buf strings.Builder
	if err := write(&buf); err != nil {
		return fromError(err)
	}
	return okBody(typeJSON, []byte(buf.String()))
}

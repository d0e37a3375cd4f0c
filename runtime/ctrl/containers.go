package ctrl

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

const textNotLoaded = "State not loaded yet"

func (s *Server) listContainers(*call) *reply {
	list, err := s.o.Engine.Containers()
	if err != nil {
		return notLoaded(err)
	}
	if e := s.listed.Load(); e != nil && e.shows(list) {
		return okBody(typeJSON, e.text)
	}
	r := okList(withRoles(list))
	if r.status == 200 && len(list) > 0 {
		s.listed.Store(&listing{list, r.body})
	}
	return r
}

// listing is an encoded list of the engine. It keeps the list, so that no later list can
// get the same address.
type listing struct {
	list []api.Container
	text []byte
}

// shows reports whether the text was made from this very list.
func (l *listing) shows(list []api.Container) bool {
	return len(list) == len(l.list) && len(list) > 0 && &list[0] == &l.list[0]
}

// withRoles returns the list with empty instead of null arrays of roles.
func withRoles(list []api.Container) []api.Container {
	none := func(c api.Container) bool { return c.Roles == nil }
	if !slices.ContainsFunc(list, none) {
		return list
	}
	list = slices.Clone(list) // it belongs to the engine
	for i := range list {
		if none(list[i]) {
			list[i].Roles = []string{}
		}
	}
	return list
}

func (s *Server) listGroups(*call) *reply {
	list, err := s.o.Engine.Groups()
	if err != nil {
		return notLoaded(err)
	}
	return okList(list)
}

func (s *Server) listDaemons(*call) *reply {
	list, err := s.o.Daemons.Daemons()
	if err != nil {
		return notLoaded(err)
	}
	return okList(list)
}

// okList answers with an array, which is empty instead of null.
func okList[T any](list []T) *reply {
	if list == nil {
		list = []T{}
	}
	return okJSON(list)
}

// notLoaded is the answer when the engine has no list: the engine's error for clients, or
// that there is no state yet.
func notLoaded(err error) *reply {
	var said *api.Error
	if errors.As(err, &said) {
		return fromError(err)
	}
	return failure(500, textNotLoaded)
}

func (s *Server) actOnContainer(c *call) *reply {
	list, err := s.o.Engine.Containers()
	if err != nil {
		return notLoaded(err)
	}
	i := slices.IndexFunc(list, func(e api.Container) bool { return e.Name == c.name() })
	switch {
	case i < 0:
		return failure(404, "Container not found")
	case list[i].RestartPolicy == "system":
		return failure(403, "Container has restart_policy 'system' and cannot be controlled via API")
	}
	action, bad := c.action()
	if bad != nil {
		return bad
	}
	switch action {
	case "start", "stop", "restart":
		return fromError(s.o.Engine.ContainerAction(c.name(), action))
	}
	return failure(400, "Invalid action. Use 'start', 'stop', or 'restart'")
}

func (s *Server) actOnDaemon(c *call) *reply {
	list, err := s.o.Daemons.Daemons()
	if err != nil {
		return notLoaded(err)
	}
	if !slices.ContainsFunc(list, func(d api.Daemon) bool { return d.Name == c.name() }) {
		return failure(404, "Daemon not found")
	}
	action, bad := c.action()
	if bad != nil {
		return bad
	}
	switch action {
	case "start", "stop":
		return fromError(s.o.Daemons.DaemonAction(c.name(), action))
	case "restart":
		if err := s.o.Daemons.DaemonAction(c.name(), "stop"); err != nil {
			return fromError(err)
		}
		return fromError(s.o.Daemons.DaemonAction(c.name(), "start"))
	}
	return failure(400, "Invalid action. Use 'start', 'stop', or 'restart'")
}

// action reads {"action":"..."}.
func (c *call) action() (string, *reply) {
	text, bad := c.content(limitAction)
	if bad != nil {
		return "", bad
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return "", failure(400, "No data")
	}
	if text[0] != '{' {
		return "", failure(400, "Missing 'action' field")
	}
	fields, err := object(text)
	if err != nil {
		return "", failure(400, "Invalid JSON")
	}
	raw, ok := fields["action"]
	if !ok {
		return "", failure(400, "Missing 'action' field")
	}
	var action string
	_ = json.Unmarshal(raw, &action) // of another type: stays empty, which is not an action
	return action, nil
}

// object reads one JSON object and nothing after it.
func object(text []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&fields); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	if fields == nil {
		return nil, io.ErrUnexpectedEOF
	}
	return fields, nil
}

const (
	textSignalFormat     = "Signal has bad format"
	textSignalUnexpected = "Signal not expected from this platform"
)

func (s *Server) signal(c *call) *reply {
	text, bad := c.content(limitCommand)
	if bad != nil {
		return bad
	}
	fields, err := object(text)
	if err != nil {
		return failure(400, textSignalFormat)
	}
	var typ string
	if json.Unmarshal(fields["type"], &typ) != nil || typ == "" {
		return failure(400, textSignalFormat)
	}
	if typ != "ready" || c.caller.Name == Runtime {
		return failure(500, textSignalUnexpected)
	}
	return fromError(s.o.Engine.Signal(c.caller, typ, payload(fields["payload"])))
}

// payload returns the value of a JSON string, and the JSON text of any other value.
func payload(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

const textCommandFormat = "Command has bad format"

func (s *Server) command(c *call) *reply {
	text, bad := c.content(limitCommand)
	if bad != nil {
		return bad
	}
	fields, err := object(text)
	if err != nil {
		return failure(400, textCommandFormat)
	}
	var op string
	raw, has := fields["payload"]
	if json.Unmarshal(fields["op"], &op) != nil || !has || !slices.Contains(api.Ops, op) {
		return failure(400, textCommandFormat)
	}
	return fromError(s.o.Engine.Command(op, payload(raw)))
}

package ctrl

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// maxBuildInfo is how much of /etc/build is shown, in bytes.
const maxBuildInfo = 64 << 10

// buildFile holds the build's manifest when none is compiled in. Tests replace it.
var buildFile = "/etc/build"

func (s *Server) buildInfo(*call) *reply {
	if s.o.BuildInfo != "" {
		return okBody(typeText, []byte(s.o.BuildInfo))
	}
	f, err := os.Open(buildFile)
	if err != nil {
		return okBody(typeText, nil)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBuildInfo))
	if err != nil {
		return internal(fmt.Errorf("reading %s: %w", buildFile, err))
	}
	return okBody(typeText, text)
}

func (s *Server) listDrivers(c *call) *reply {
	if s.o.Drivers == nil {
		return okBody(typeJSON, []byte("{}"))
	}
	list, err := s.o.Drivers.List(c.caller.Name)
	switch {
	case err != nil:
		return fromError(err)
	case len(list) == 0:
		return okBody(typeJSON, []byte("{}"))
	}
	return okJSON(list)
}

// loadDrivers loads the caller's drivers, or the one named. A device without managed
// drivers answers with success, as existing clients expect.
func (s *Server) loadDrivers(c *call) *reply {
	if s.o.Drivers == nil {
		return ok()
	}
	if err := s.o.Drivers.Load(c.caller.Name, c.name()); err != nil {
		s.o.Log.Warnf("loading drivers %q of %s: %v", c.name(), c.caller.Name, err)
		if c.name() == "" {
			return failure(400, "Error loading drivers")
		}
		return failure(400, "Error loading driver")
	}
	return ok()
}

func (s *Server) unloadDrivers(c *call) *reply {
	if s.o.Drivers == nil {
		return ok()
	}
	if err := s.o.Drivers.Unload(c.caller.Name, c.name()); err != nil {
		s.o.Log.Warnf("unloading drivers %q of %s: %v", c.name(), c.caller.Name, err)
	}
	return ok()
}

// mask is shown in place of a secret that is set.
const mask = "********"

// shown returns the value and text of a setting as a client may see them.
func (v *Setting) shown() (any, string) {
	switch {
	case v.Value == nil:
		return nil, "(null)"
	case v.Secret || v.Key == "PH_CREDS_SECRET":
		return mask, mask
	}
	return v.Value, v.Text
}

func (s *Server) settings() ([]Setting, *reply) {
	if s.o.Config == nil {
		return nil, failure(501, "Configuration is not available")
	}
	return s.o.Config(), nil
}

// configOld answers with one object, old dotted key to typed value, in table order.
func (s *Server) configOld(*call) *reply {
	list, bad := s.settings()
	if bad != nil {
		return bad
	}
	var buf bytes.Buffer
	for _, v := range list {
		if v.Alias == "" {
			continue
		}
		value, _ := v.shown()
		name, err1 := compact(v.Alias)
		text, err2 := compact(value)
		if err1 != nil || err2 != nil {
			return internal(fmt.Errorf("writing setting %s: %w", v.Key, err2))
		}
		buf.WriteByte(',')
		buf.Write(name)
		buf.WriteByte(':')
		buf.Write(text)
	}
	body := append(buf.Bytes(), '}')
	if len(body) == 1 {
		return okBody(typeJSON, []byte("{}"))
	}
	body[0] = '{'
	return okBody(typeJSON, body)
}

func (s *Server) configNew(*call) *reply {
	list, bad := s.settings()
	if bad != nil {
		return bad
	}
	out := make([]api.Setting, 0, len(list))
	for _, v := range list {
		_, text := v.shown()
		out = append(out, api.Setting{Key: v.Key, Value: text, Modified: v.Level, Note: v.Note})
	}
	return okJSON(out)
}

func (s *Server) graph(*call) *reply {
	if s.o.Graph == nil {
		return okBody(typeJSON, []byte("[]"))
	}
	return written(s.o.Graph)
}

func (s *Server) wakelocks(*call) *reply {
	if s.o.Wakelocks == nil {
		return failure(501, "Power management is not available")
	}
	return okJSON(s.o.Wakelocks())
}

func (s *Server) collectGarbage(c *call) *reply {
	if s.o.CollectGarbage == nil {
		return failure(501, "Garbage collection is not available")
	}
	freed, err := s.o.CollectGarbage(c.ctx)
	if err != nil {
		return fromError(err)
	}
	return okBody(typeJSON, fmt.Appendf(nil, `{"reclaimed": %d}`, freed))
}

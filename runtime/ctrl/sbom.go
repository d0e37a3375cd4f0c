package ctrl

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/sbom"
)

const textManySBOMs = "Another bill of materials is being sent. Try again"

// runningSBOM answers with the bill of materials of the running revision, or of a part of it.
func (s *Server) runningSBOM(c *call) *reply { return s.sbom(s.o.Steps.Running(), c.names) }

// stepSBOM answers with that of a step, or of a part of it.
func (s *Server) stepSBOM(c *call) *reply { return s.sbom(c.step(), c.names[1:]) }

// sbom joins the bill of materials of a revision, or of the part in the path. One at a time is
// written, because each takes memory.
func (s *Server) sbom(rev string, part []string) *reply {
	f, err := s.o.Steps.OpenState(rev)
	if err != nil {
		return stepError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return internal(err)
	}
	if !s.serial.sbom.TryLock() {
		return fromError(&api.Error{Status: 503, Text: textManySBOMs, RetryAfter: 1})
	}
	release := s.serial.sbom.Unlock
	if info.Size() > smallState {
		free, err := s.serial.room.take(info.Size())
		if err != nil {
			release()
			return fromError(err)
		}
		release = func() { free(); s.serial.sbom.Unlock() }
	}
	r, name, bad := s.revision(rev, f, part)
	if bad != nil {
		release()
		return bad
	}
	return &reply{status: 200, mediaType: typeJSON, stream: func(w io.Writer) error {
		defer release()
		defer debug.FreeOSMemory() // nobody asks often
		return sbom.Write(w, r, name)
	}}
}

// revision reads a state, and the name of the part.
func (s *Server) revision(rev string, f *os.File, part []string) (r *sbom.Revision, name string, bad *reply) {
	h := sha256.New()
	doc, err := io.ReadAll(io.TeeReader(f, h))
	if err != nil {
		return nil, "", internal(fmt.Errorf("reading the state of revision %s: %w", rev, err))
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, "", internal(fmt.Errorf("reading the state of revision %s: %w", rev, err))
	}
	if len(part) > 0 {
		plain, valid := decode(part[0])
		if !valid || !slices.Contains(st.Parts(), plain) {
			return nil, "", failure(404, textNoStep)
		}
		name = plain
	}
	store, err := objects.Create(s.o.Objects)
	if err != nil {
		return nil, "", internal(err)
	}
	return &sbom.Revision{
		Name: rev, State: st, SHA256: hex.EncodeToString(h.Sum(nil)), Changed: s.o.Steps.Changed(rev),
		Open: func(sum string) (io.ReadCloser, error) {
			switch {
			case !store.Has(sum):
				return nil, errors.New("its object is missing")
			case !s.haveObject(sum):
				return nil, fmt.Errorf("object %s: %w", sum, errDamaged)
			}
			return store.Open(sum)
		},
	}, name, nil
}

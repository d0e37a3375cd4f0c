package ctrl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
	"github.com/pantavisor/pantavisor/runtime/step"
)

const (
	textNoStep    = "Resource does not exist"
	textStepName  = "Request has bas step name" // spelt so on the wire
	textStepState = "Parser: State JSON has bad format"
	textManySteps = "Too many steps are being sent. Try again"
	textStepBusy  = "Cannot do this operation while the revision is in use"
	stepSpec      = "pantavisor-service-system@1"
	maxLocalName  = 64
	maxListed     = 512 // bytes of a commit message or progress in the list of steps
)

// step returns the name of the step in the path, "" when it is not a valid name.
func (c *call) step() string {
	rev := c.name()
	if len(c.parts) > 2 && c.parts[1] == step.Locals && c.parts[2] == rev {
		rev = step.Locals + "/" + rev
	}
	if !step.Valid(rev) {
		return ""
	}
	return rev
}

// getStep answers with the state of a step. A large one is passed on piece by piece.
func (s *Server) getStep(c *call) *reply {
	f, err := s.o.Steps.OpenState(c.step())
	if err != nil {
		return stepError(err)
	}
	st, err := f.Stat()
	if err != nil || st.Size() <= smallState {
		_ = f.Close()
		return stepFile(c, s.o.Steps.State)
	}
	return &reply{status: 200, mediaType: typeJSON, stream: func(w io.Writer) error {
		defer f.Close()
		_, err := http1.Copy(w, f)
		return err
	}}
}

// getProgress answers with the progress of a step. A client that asked for a step which is
// not stored learns that there.
func (s *Server) getProgress(c *call) *reply {
	rev := c.step()
	if rev != "" && !s.o.Steps.Has(rev) && s.o.Updates != nil {
		if text := s.o.Updates.Progress(rev); text != nil {
			return okBody(typeJSON, text)
		}
	}
	return stepFile(c, s.o.Steps.ProgressText)
}

// stepFile answers with a file of a step.
func stepFile(c *call, read func(rev string) ([]byte, error)) *reply {
	text, err := read(c.step())
	if err != nil {
		return stepError(err)
	}
	return okBody(typeJSON, text)
}

func stepError(err error) *reply {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, step.ErrName) {
		return failure(404, textNoStep)
	}
	return internal(err)
}

// listSteps writes the list with the spacing that existing clients expect.
func (s *Server) listSteps(*call) *reply {
	revs, err := s.o.Steps.List()
	if err != nil {
		return internal(err)
	}
	var b strings.Builder
	for _, rev := range revs {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		s.describeStep(&b, rev)
	}
	return okBody(typeJSON, []byte("["+b.String()+"]"))
}

func (s *Server) describeStep(b *strings.Builder, rev string) {
	one := api.Step{
		Name: rev, Date: s.o.Steps.Changed(rev).UTC().Format("2006-01-02T15:04:05Z"),
		CommitMsg: string(short(s.o.Steps.CommitMsg(rev))), Progress: briefly(s.o.Steps.ProgressText(rev)),
	}
	if !isObject(one.Progress) {
		one.Progress = []byte("{}")
	}
	fmt.Fprintf(b, `{"name":%s, "date":"%s", "commitmsg":%s, "progress":%s}`,
		canon.AppendLong(nil, one.Name), one.Date, canon.AppendLong(nil, one.CommitMsg), one.Progress)
}

// briefly returns a progress as the list shows it: of a failed revision, the lines of its log are
// left out when it is too long with them.
func briefly(text []byte, err error) []byte {
	var p step.Progress
	if len(text) <= maxListed || err != nil || json.Unmarshal(text, &p) != nil || p.Status == "" {
		return short(text, err)
	}
	p.Logs = ""
	return short(json.Marshal(p))
}

// short returns the content of a file, nothing when it is longer than the list shows.
func short(text []byte, err error) []byte {
	if err != nil || len(text) > maxListed {
		return nil
	}
	return text
}

func isObject(text []byte) bool {
	_, err := object(text)
	return err == nil
}

// stateOf reads a state from the body. The caller releases its memory.
func (s *Server) stateOf(c *call) (state []byte, release func(), bad *reply) {
	release, err := s.serial.room.take(c.body.Announced())
	if err != nil {
		return nil, nil, fromError(err)
	}
	state, bad = c.content(max(c.body.Announced(), smallState))
	if bad == nil {
		return state, release, nil
	}
	release()
	if bad.status == 507 { // chunked
		bad = failure(411, fmt.Sprintf("A state of more than %d bytes needs a Content-Length", smallState))
	}
	return nil, nil, bad
}

// putStep stores a new local step. It becomes visible only when the state has been
// checked and written completely.
func (s *Server) putStep(c *call) *reply {
	rev := c.step()
	if rev == "" || len(c.name()) > maxLocalName {
		return failure(400, textStepName)
	}
	state, release, bad := s.stateOf(c)
	if bad != nil {
		return bad
	}
	defer release()
	s.serial.steps.Lock()
	defer s.serial.steps.Unlock()
	defer s.o.Steps.Pin()() // the objects that are there stay until the step refers to them
	if err := s.checkStep(rev, state); err != nil {
		var e *api.Error
		if errors.As(err, &e) {
			return fromError(err)
		}
		s.o.Log.Warnf("refusing step %s: %v", rev, err)
		return failure(422, textStepState)
	}
	switch err := s.storeStep(rev, state); {
	case errors.Is(err, step.ErrInUse):
		return failure(409, textStepBusy)
	case err != nil:
		return storageError(err)
	}
	return ok()
}

// ownState is the size in bytes up to which a state may use the space that is kept free
// for the runtime's own files: without it nobody could mend a device that is full.
const ownState = 64 << 10

// storeStep stores a step for which there is space.
func (s *Server) storeStep(rev string, state []byte) error {
	if len(state) > ownState {
		room, err := s.o.Space.Reserve(int64(len(state)))
		if err != nil {
			return err
		}
		defer room.Release()
	}
	return s.o.Steps.Replace(rev, state, s.stepInUse)
}

func (s *Server) checkStep(rev string, state []byte) error {
	if s.o.CheckStep != nil {
		return s.o.CheckStep(rev, state)
	}
	fields, err := object(state)
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	var spec string
	if json.Unmarshal(fields["#spec"], &spec) != nil || spec != stepSpec {
		return fmt.Errorf("the state's #spec is not %q", stepSpec)
	}
	return nil
}

func (s *Server) stepInUse(rev string) bool {
	if s.o.StepInUse != nil {
		return s.o.StepInUse(rev)
	}
	return s.o.Steps.Running() == rev
}

func (s *Server) putCommitMsg(c *call) *reply {
	rev := c.step()
	if !s.o.Steps.Has(rev) {
		return failure(404, textNoStep)
	}
	message, bad := c.content(limitCommitMsg)
	switch {
	case bad != nil:
		return bad
	case len(message) == 0:
		return failure(400, "No commit message")
	}
	if err := s.o.Steps.SetCommitMsg(rev, message); err != nil {
		return storageError(err)
	}
	return ok()
}

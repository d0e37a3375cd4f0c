package ctrl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

const (
	textNoStep    = "Resource does not exist"
	textStepName  = "Request has bas step name" // spelt so on the wire
	textStepState = "Parser: State JSON has bad format"
	textManySteps = "Too many steps are being sent. Try again"
	textStepBusy  = "Cannot do this operation while the revision is in use"
	stepSpec      = "pantavisor-service-system@1"
	readyProgress = `{"status":"NEW","status-msg":"Update ready to be run","progress":0,"retries":0}`
	localPrefix   = "locals"
	maxLocalName  = 64
	maxListed     = 512 // of a commit message or progress in the list of steps
	partPrefix    = ".put-"
	stateFileMode = 0o644
)

func (s *Server) trails() string { return filepath.Join(s.o.Storage, "trails") }

// isStepSegment accepts one segment of a step's name as a file name. Hidden
// names are the runtime's own.
func isStepSegment(name string) bool {
	if name == "" || name[0] == '.' || len(name) > 255 || !utf8.ValidString(name) {
		return false
	}
	return strings.IndexFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f || c == '/' }) < 0
}

// step is the name of the step that a path names, "" when it cannot be one.
func (c *call) step() string {
	name := c.name()
	if !isStepSegment(name) {
		return ""
	}
	if c.parts[1] == localPrefix && len(c.parts) > 2 && c.parts[2] == name {
		return localPrefix + "/" + name
	}
	if name == localPrefix {
		return ""
	}
	return name
}

func (s *Server) getStep(c *call) *reply { return s.stepFile(c, ".pvr/json") }

func (s *Server) getProgress(c *call) *reply { return s.stepFile(c, ".pv/progress") }

func (s *Server) stepFile(c *call, file string) *reply {
	rev := c.step()
	if rev == "" {
		return failure(404, textNoStep)
	}
	text, err := os.ReadFile(filepath.Join(s.trails(), rev, file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failure(404, textNoStep)
	case err != nil:
		return internal(fmt.Errorf("reading step %s: %w", rev, err))
	}
	return okBody(typeJSON, text)
}

// listSteps writes the list in the spacing that existing clients know.
func (s *Server) listSteps(*call) *reply {
	var b strings.Builder
	for _, rev := range append(s.revisions(""), s.revisions(localPrefix)...) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		s.describeStep(&b, rev)
	}
	return okBody(typeJSON, []byte("["+b.String()+"]"))
}

// revisions lists the steps below trails or trails/locals, sorted as text.
func (s *Server) revisions(dir string) []string {
	entries, err := os.ReadDir(filepath.Join(s.trails(), dir))
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if e.IsDir() && isStepSegment(e.Name()) && (dir != "" || e.Name() != localPrefix) {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

func (s *Server) describeStep(b *strings.Builder, rev string) {
	dir := filepath.Join(s.trails(), rev)
	var changed time.Time
	if st, err := os.Stat(dir); err == nil {
		changed = st.ModTime()
	}
	message := short(filepath.Join(dir, ".pv/commitmsg"))
	progress := short(filepath.Join(dir, ".pv/progress"))
	if !isObject(progress) {
		progress = []byte("{}")
	}
	one := api.Step{Name: rev, Date: changed.UTC().Format("2006-01-02T15:04:05Z"), CommitMsg: string(message), Progress: progress}
	fmt.Fprintf(b, `{"name":%s, "date":"%s", "commitmsg":%s, "progress":%s}`, quote(one.Name), one.Date, quote(one.CommitMsg), one.Progress)
}

// short is the content of a file, nothing when it is longer than the list shows.
func short(path string) []byte {
	if st, err := os.Stat(path); err != nil || st.Size() > maxListed {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil || len(text) > maxListed {
		return nil
	}
	return text
}

func isObject(text []byte) bool {
	_, err := object(text)
	return err == nil
}

// quote writes a JSON string in the way of the step and metadata lists: only
// what must be escaped is, as \u00XX.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range strings.ToValidUTF8(s, "\ufffd") {
		if c < ' ' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\u%04X`, c)
		} else {
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// putStep stores a new local step. Nothing of it is visible before the state has
// been judged and written as a whole.
func (s *Server) putStep(c *call) *reply {
	rev := c.step()
	if rev == "" || len(c.name()) > maxLocalName {
		return failure(400, textStepName)
	}
	release, admitted := s.serial.admit()
	if !admitted {
		return fromError(&api.Error{Status: 503, Text: textManySteps, RetryAfter: 1})
	}
	defer release()
	state, bad := c.content(limitStep)
	if bad != nil {
		return bad
	}
	s.serial.steps.Lock()
	defer s.serial.steps.Unlock()
	if err := s.checkStep(rev, state); err != nil {
		var e *api.Error
		if errors.As(err, &e) {
			return fromError(err)
		}
		s.o.Log.Warnf("refusing step %s: %v", rev, err)
		return failure(422, textStepState)
	}
	if s.stepInUse(rev) {
		return failure(409, textStepBusy)
	}
	if err := s.storeStep(rev, state); err != nil {
		return storageError(fmt.Errorf("storing step %s: %w", rev, err))
	}
	return ok()
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
	current, err := os.Readlink(filepath.Join(s.trails(), "current"))
	return err == nil && current == rev
}

// storeStep replaces the two files of a step that exists, progress first: a
// state that is there is always ready to be run. A new step is made under
// a hidden name and renamed.
func (s *Server) storeStep(rev string, state []byte) error {
	final := filepath.Join(s.trails(), rev)
	if _, err := os.Stat(final); err == nil {
		return writeStep(final, state)
	}
	parent := filepath.Dir(final)
	if err := os.MkdirAll(parent, folderMode); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, partPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, folderMode); err != nil {
		return err
	}
	if err := writeStep(dir, state); err != nil {
		return err
	}
	if err := os.Rename(dir, final); err != nil {
		return err
	}
	return atomicfile.SyncDir(parent)
}

func writeStep(dir string, state []byte) error {
	for _, sub := range []string{".pv", ".pvr"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), folderMode); err != nil {
			return err
		}
	}
	if err := atomicfile.Write(filepath.Join(dir, ".pv/progress"), []byte(readyProgress), stateFileMode); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, ".pvr/json"), state, stateFileMode); err != nil {
		return err
	}
	return atomicfile.SyncDir(dir)
}

func (s *Server) putCommitMsg(c *call) *reply {
	rev := c.step()
	dir := filepath.Join(s.trails(), rev)
	if st, err := os.Stat(dir); rev == "" || err != nil || !st.IsDir() {
		return failure(404, textNoStep)
	}
	message, bad := c.content(limitCommitMsg)
	switch {
	case bad != nil:
		return bad
	case len(message) == 0:
		return failure(400, "No commit message")
	}
	s.serial.steps.Lock()
	defer s.serial.steps.Unlock()
	if err := os.MkdirAll(filepath.Join(dir, ".pv"), folderMode); err != nil {
		return storageError(err)
	}
	err := atomicfile.Write(filepath.Join(dir, ".pv/commitmsg"), message, stateFileMode)
	if err != nil {
		return storageError(fmt.Errorf("storing the commit message of %s: %w", rev, err))
	}
	return ok()
}

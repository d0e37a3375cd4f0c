package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/pvtx"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// ok is the answer to what has no other.
var ok = map[string]string{"status": "ok"}

// transactions adds cgi-bin/pvtx. Requests that change something are accepted as POST and
// as PUT: the manual has both.
func (s *Server) transactions() {
	get := func(verb string, h http.HandlerFunc) { s.mux.HandleFunc("GET /cgi-bin/pvtx/"+verb, h) }
	change := func(verb string, h http.HandlerFunc) {
		s.mux.HandleFunc("POST /cgi-bin/pvtx/"+verb, h)
		s.mux.HandleFunc("PUT /cgi-bin/pvtx/"+verb, h)
	}
	get("show", s.show)
	get("diff", s.difference)
	get("check", s.check)
	get("status", s.status)
	change("begin", s.begin)
	change("add", s.add)
	change("remove", s.remove)
	change("commit", s.commit)
	change("abort", s.abort)
	change("run", s.run)
}

// rejected is an error with the transaction that it is about.
type rejected struct {
	Error       string          `json:"error"`
	Transaction json.RawMessage `json:"transaction"`
}

// Texts that clients of the API know.
const (
	textNone  = "No active transaction."
	textStart = "No active transaction. Start a transaction first."
)

// refuse writes an error about the transaction.
func (s *Server) refuse(w http.ResponseWriter, err error, none string) {
	switch {
	case errors.Is(err, pvtx.ErrNone):
		answer(w, http.StatusBadRequest, rejected{none, nil})
	case errors.Is(err, pvtx.ErrActive):
		doc, _ := s.o.Transaction.Show()
		answer(w, http.StatusBadRequest, rejected{"A transaction is active. Commit or abort it first.", doc})
	default:
		fail(w, err)
	}
}

// shown answers with the state of the transaction after a change of it.
func (s *Server) shown(w http.ResponseWriter, err error) {
	var doc []byte
	if err == nil {
		doc, err = s.o.Transaction.Show()
	}
	if err != nil {
		s.refuse(w, err, textStart)
		return
	}
	document(w, doc)
}

// document writes JSON as it is.
func document(w http.ResponseWriter, doc []byte) {
	w.Header().Set("Content-Type", typeJSON)
	_, _ = w.Write(doc)
}

func (s *Server) show(w http.ResponseWriter, _ *http.Request) {
	doc, err := s.o.Transaction.Show()
	if err != nil {
		s.refuse(w, err, textNone)
		return
	}
	document(w, doc)
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) {
	base := pvtx.Current
	if r.URL.Query().Get("empty") == "true" {
		base = pvtx.Empty
	}
	s.shown(w, s.o.Transaction.Begin(r.Context(), pvtx.Begin{Base: base}))
}

func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	s.shown(w, s.o.Transaction.Add(r.Context(), r.Body))
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	part := r.URL.Query().Get("part")
	gone, err := s.o.Transaction.Remove(part)
	if err == nil && len(gone) == 0 {
		answer(w, http.StatusNotFound, refusal{fmt.Sprintf("Nothing of the transaction belongs to %q.", part)})
		return
	}
	s.shown(w, err)
}

// abort discards the transaction. Package pvtx does not mind when there is none.
func (s *Server) abort(w http.ResponseWriter, r *http.Request) {
	st, err := s.o.Transaction.Status()
	if err == nil && st.Status != "active" {
		err = pvtx.ErrNone
	}
	if err == nil {
		err = s.o.Transaction.Abort(r.Context())
	}
	if err != nil {
		s.refuse(w, err, textStart)
		return
	}
	answer(w, http.StatusOK, ok)
}

// maxMessage is what the control socket accepts as a commit message, in bytes.
const maxMessage = 256

// commit stores the revision, with the commit message that the query may have.
func (s *Server) commit(w http.ResponseWriter, r *http.Request) {
	note := r.URL.Query().Get("message")
	if len(note) > maxMessage {
		answer(w, http.StatusBadRequest, refusal{fmt.Sprintf("The message has %d bytes; at most %d are possible.", len(note), maxMessage)})
		return
	}
	rev, err := s.o.Transaction.Commit(r.Context(), pvtx.Commit{Message: note})
	if err != nil {
		s.refuse(w, err, textStart)
		return
	}
	answer(w, http.StatusOK, map[string]string{"revision": rev})
}

// run lets the device go to a revision. While another update is tested that is an error
// with Retry-After.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	rev := strings.TrimSpace(r.URL.Query().Get("rev"))
	if rev == "" {
		answer(w, http.StatusBadRequest, refusal{"the query has no rev: the revision to run"})
		return
	}
	if !step.Valid(rev) {
		answer(w, http.StatusBadRequest, refusal{fmt.Sprintf("%.80q is not a valid revision", rev)})
		return
	}
	if err := s.o.Transaction.Run(r.Context(), rev); err != nil {
		fail(w, err)
		return
	}
	progress, err := s.progress(r, rev)
	if err != nil || !strings.Contains(string(progress), `"status"`) { // the device is about to begin, or to restart
		answer(w, http.StatusOK, ok)
		return
	}
	document(w, progress)
}

func (s *Server) progress(r *http.Request, rev string) (json.RawMessage, error) {
	return s.o.Device.Text(r.Context(), "/steps/"+rev+"/progress")
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	rev := revision(r)
	if !step.Valid(rev) {
		answer(w, http.StatusBadRequest, refusal{fmt.Sprintf("%.80q is not a valid revision", rev)})
		return
	}
	progress, err := s.progress(r, rev)
	if err != nil {
		fail(w, err)
		return
	}
	if rev == revisionName {
		rev = s.running(r)
	}
	answer(w, http.StatusOK, struct {
		Rev      string          `json:"rev"`
		Progress json.RawMessage `json:"progress"`
	}{rev, progress})
}

// running returns the name of the running revision, as the device publishes it.
func (s *Server) running(r *http.Request) string {
	var published struct {
		Revision string `json:"pantavisor.revision"`
	}
	if s.o.Device.Fetch(r.Context(), "/device-meta", &published) != nil || published.Revision == "" {
		return revisionName
	}
	return published.Revision
}

func (s *Server) difference(w http.ResponseWriter, r *http.Request) {
	d, err := s.o.Transaction.Diff(r.Context())
	if err != nil {
		s.refuse(w, err, textNone)
		return
	}
	answer(w, http.StatusOK, d)
}

// check answers with the difference and with what would stop the update.
func (s *Server) check(w http.ResponseWriter, r *http.Request) {
	report, err := s.o.Transaction.Check(r.Context())
	if err != nil {
		s.refuse(w, err, textNone)
		return
	}
	answer(w, http.StatusOK, report)
}

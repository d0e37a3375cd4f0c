package web

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

const (
	repositoryPath = "/cgi-bin/pvr"
	contentPath    = repositoryPath + "/data/"
	signature      = "signature" // parameter of the URLs below contentPath
)

// repository adds cgi-bin/pvr, the protocol of package revision/remote:
//
//	GET  .pvrremote      where the rest is
//	GET  json            the running state
//	POST objects/        announces an object: 200 send it, 409 it is there
//	GET  objects/SUM     where an object's content is
//	PUT, GET data/SUM    the content
//	POST steps           stores a revision and runs it
//
// Clients send no token to the URLs of contents, which are signed instead.
func (s *Server) repository() {
	s.mux.HandleFunc("GET "+repositoryPath+"/.pvrremote", s.describeRepository)
	s.mux.HandleFunc("GET "+repositoryPath+"/json", s.getState)
	s.mux.HandleFunc("POST "+repositoryPath+"/objects/{$}", s.announce)
	s.mux.HandleFunc("POST "+repositoryPath+"/objects", s.announce)
	s.mux.HandleFunc("GET "+repositoryPath+"/objects/{sum}", s.getRecord)
	s.mux.HandleFunc("GET "+contentPath+"{sum}", s.getObject)
	s.mux.HandleFunc("PUT "+contentPath+"{sum}", s.putObject)
	s.mux.HandleFunc("POST "+repositoryPath+"/steps", s.postStep)
}

// base returns the URL of the repository as the client knows it.
func base(r *http.Request) string { return "http://" + r.Host + repositoryPath }

func (s *Server) describeRepository(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"pvr-spec": "pvr-pantahub-1", "json-get-url": base(r) + "/json", "json-key": "state",
		"objects-endpoint": base(r) + "/objects", "post-url": base(r) + "/steps",
		"post-fields": []string{"commit-msg"}, "post-fields-opt": []string{"rev"},
	})
}

func (s *Server) getState(w http.ResponseWriter, r *http.Request) {
	s.pass(w, r, "/steps/"+revisionName)
}

// record is what clients need to know of an object.
type record struct {
	ID     string `json:"id"`
	Sum    string `json:"sha256sum"`
	Name   string `json:"objectname"`
	Size   string `json:"size"`
	Number int64  `json:"sizeint"`
	Mime   string `json:"mime-type"`
	Put    string `json:"signed-puturl"`
	Get    string `json:"signed-geturl"`
}

func (s *Server) record(r *http.Request, sum, name string, size int64) record {
	signed := func(method string) string {
		path := contentPath + sum
		return "http://" + r.Host + path + "?" + signature + "=" + s.sessions.sign(method+" "+path)
	}
	return record{
		ID: sum, Sum: sum, Name: name, Size: strconv.FormatInt(size, 10), Number: size,
		Mime: "application/octet-stream", Put: signed("PUT"), Get: signed("GET"),
	}
}

func (s *Server) announce(w http.ResponseWriter, r *http.Request) {
	var o struct {
		Sum  string      `json:"sha256sum"`
		Name string      `json:"objectname"`
		Size json.Number `json:"size"`
	}
	body, err := bounded.Read(r.Body, maxForm)
	if err == nil {
		err = json.Unmarshal(body, &o)
	}
	if err == nil && !state.IsSum(o.Sum) {
		err = errors.New("sha256sum is missing or wrong")
	}
	if err != nil {
		fail(w, fmt.Errorf("reading the announcement: %w", err))
		return
	}
	have, err := s.o.Device.Objects(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	size, _ := o.Size.Int64() // what is sent counts
	status := http.StatusOK
	if stored, ok := have[o.Sum]; ok && stored == size {
		status = http.StatusConflict
	}
	answer(w, status, s.record(r, o.Sum, o.Name, size))
}

func (s *Server) getRecord(w http.ResponseWriter, r *http.Request) {
	sum := r.PathValue("sum")
	if size, ok := s.size(w, r, sum); ok {
		answer(w, http.StatusOK, s.record(r, sum, "", size))
	}
}

// size returns the size of an object of the device, or answers that there is none.
func (s *Server) size(w http.ResponseWriter, r *http.Request, sum string) (int64, bool) {
	have, err := s.o.Device.Objects(r.Context())
	if err != nil {
		fail(w, err)
		return 0, false
	}
	size, ok := have[sum]
	if !ok {
		answer(w, http.StatusNotFound, refusal{fmt.Sprintf("there is no object %.80q", sum)})
	}
	return size, ok
}

func (s *Server) getObject(w http.ResponseWriter, r *http.Request) {
	sum := r.PathValue("sum")
	size, ok := s.size(w, r, sum)
	if !ok {
		return
	}
	resp, err := s.o.Device.Ask(r.Context(), &client.Request{Path: "/objects/" + sum})
	if err != nil {
		fail(w, err)
		return
	}
	defer resp.Close()
	from, partial := rest(r, sum, size)
	if _, err := io.CopyN(io.Discard, resp, from); err != nil {
		fail(w, fmt.Errorf("reading object %s: %w", sum, err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", `"`+sum+`"`)
	h.Set("Content-Length", strconv.FormatInt(size-from, 10))
	if partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, size-1, size))
		w.WriteHeader(http.StatusPartialContent)
	}
	// A copy that is cut has fewer bytes than announced, so that no client takes it for all.
	_, _ = io.Copy(w, resp)
}

// rest returns where a download that was interrupted goes on: only ranges to the end are
// answered as such (RFC 9110, section 14.2, permits to ignore others).
func rest(r *http.Request, sum string, size int64) (from int64, ok bool) {
	text, found := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	text, open := strings.CutSuffix(text, "-")
	from, err := strconv.ParseInt(text, 10, 64)
	tag := r.Header.Get("If-Range")
	if !found || !open || err != nil || from <= 0 || from >= size || tag != "" && tag != `"`+sum+`"` {
		return 0, false
	}
	return from, true
}

func (s *Server) putObject(w http.ResponseWriter, r *http.Request) {
	sum := r.PathValue("sum")
	switch {
	case !state.IsSum(sum):
		answer(w, http.StatusBadRequest, refusal{fmt.Sprintf("%.80q is not a SHA-256", sum)})
	case r.ContentLength < 0:
		answer(w, http.StatusLengthRequired, refusal{"the length of the object is missing"})
	default:
		if err := s.o.Device.PutObject(r.Context(), r.Body, sum, r.ContentLength); err != nil {
			fail(w, err)
			return
		}
		answer(w, http.StatusOK, ok)
	}
}

// maxState bounds a posted state, in bytes. It is in memory while it is stored.
const maxState = 4 << 20

// posted is the receipt for a revision.
type posted struct {
	Rev      int    `json:"rev"` // -1, as the name of a local revision is no number
	Local    string `json:"revlocal"`
	StateSum string `json:"state-sha"`
	Trail    string `json:"trail-id"`
}

// postStep stores a revision and runs it. While another update is tested that is an error
// with the name of the revision, which stays and can be run later.
func (s *Server) postStep(w http.ResponseWriter, r *http.Request) {
	doc, note, err := readPost(r)
	if err != nil {
		fail(w, fmt.Errorf("reading the revision: %w", err))
		return
	}
	sum := sha256.Sum256(doc)
	rev := fmt.Sprintf("locals/pvr-%d-%s", time.Now().Unix(), hex.EncodeToString(sum[:4]))
	if err := s.o.Device.Send(r.Context(), client.WithBody("PUT", "/steps/"+rev, string(doc))); err != nil {
		fail(w, fmt.Errorf("storing revision %s: %w", rev, err))
		return
	}
	if note != "" {
		if err := s.o.Device.Send(r.Context(), client.WithBody("PUT", "/steps/"+rev+"/commitmsg", note)); err != nil {
			s.o.Log.Printf("describing revision %s: %v", rev, err)
		}
	}
	if err := s.o.Transaction.Run(r.Context(), rev); err != nil {
		fail(w, fmt.Errorf("revision %s is stored, but does not run: %w", rev, err))
		return
	}
	answer(w, http.StatusOK, posted{-1, rev, hex.EncodeToString(sum[:]), "local"})
}

// readPost returns the state and the commit message of a post.
func readPost(r *http.Request) (doc []byte, note string, err error) {
	body, err := bounded.Read(r.Body, maxState)
	if err != nil {
		return nil, "", err
	}
	post, err := canon.Parse(body)
	if err != nil {
		return nil, "", err
	}
	value, ok := post.Get("state")
	if !ok {
		return nil, "", errors.New(`"state" is missing`)
	}
	message, _ := post.Get("commit-msg")
	note, _ = message.Text()
	return value.Encode(), strings.ToValidUTF8(note[:min(len(note), maxMessage)], ""), nil
}

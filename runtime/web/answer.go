package web

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
)

const typeJSON = "application/json"

// refusal is the body of an answer that is an error.
type refusal struct {
	Error string `json:"error"`
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // of a value that the device sent
		status, body = http.StatusBadGateway, []byte(`{"error":"the device's answer is not valid JSON"}`)
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// fail writes an error.
func fail(w http.ResponseWriter, err error) {
	answer(w, prepare(w, err), refusal{message(err)})
}

// prepare sets the headers that belong to an error and returns its status.
func prepare(w http.ResponseWriter, err error) int {
	var refused *client.Refused
	var limit bounded.LimitError
	switch {
	case errors.As(err, &refused):
		if refused.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refused.RetryAfter.Seconds()))))
		}
		return statusOf(refused)
	case errors.As(err, &limit):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, pvtx.ErrBusy):
		return http.StatusConflict
	}
	return http.StatusBadRequest
}

// statusOf returns the status for what the device answered: its own, unless that is about
// this server's request and not about the user's.
func statusOf(refused *client.Refused) int {
	switch refused.Status {
	case http.StatusForbidden, http.StatusMisdirectedRequest, http.StatusInternalServerError:
		return http.StatusBadGateway
	}
	return refused.Status
}

// message returns what an error says, without the JSON of the control socket.
func message(err error) string {
	text := err.Error()
	if refused, ok := errors.AsType[*client.Refused](err); ok {
		text = strings.Replace(text, refused.Error(), refused.Text(), 1)
	}
	return text
}

// maxForm bounds the body of a request that is neither a package nor an object.
const maxForm = 64 << 10

// pass sends the request to a path of the control socket and its answer back. An answer
// that is an error keeps its status and gets the form of this server's errors.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, path string) {
	body, err := bounded.Read(r.Body, maxForm)
	if err != nil {
		fail(w, err)
		return
	}
	req := client.WithBody(r.Method, path, string(body))
	if len(body) == 0 {
		req.Body = nil
	}
	resp, err := s.o.Device.Ask(r.Context(), req)
	if err != nil {
		fail(w, err)
		return
	}
	defer resp.Close()
	w.Header().Set("Content-Type", typeJSON)
	_, _ = io.Copy(w, resp)
}

// patient makes a request with its answer live for as long as bytes move.
func patient(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	control := http.NewResponseController(w)
	r.Body = &slowBody{r.Body, control}
	return &slowWriter{w, control}
}

type slowBody struct {
	io.ReadCloser
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *slowBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(stallTime))
	return b.ReadCloser.Read(p)
}

type slowWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write implements io.Writer.
func (w *slowWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(stallTime))
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

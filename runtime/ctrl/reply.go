package ctrl

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// The media types of answers.
const (
	typeJSON   = "application/json"
	typeText   = "text/plain"
	typeHTML   = "text/html" // what existing clients expect of ok and unsupported
	typeBinary = "application/octet-stream"
)

// dateFormat is the IMF-fixdate of RFC 9110 §5.6.7.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// reply is one answer. The length of a stream is unknown when it begins.
type reply struct {
	status     int
	mediaType  string
	body       []byte
	stream     func(io.Writer) error
	retryAfter int
	close      bool // the connection ends after it
	drop       bool // no answer at all: the connection ends
}

// reason is the phrase of a status (RFC 9110 §15).
func reason(status int) string {
	switch status {
	case 200:
		return "OK"
	case 204:
		return "No Content"
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 409:
		return "Conflict"
	case 411:
		return "Length Required"
	case 413:
		return "Payload Too Large"
	case 422:
		return "Unprocessable Content"
	case 500:
		return "Internal Server Error"
	case 421:
		return "Misdirected Request"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 507:
		return "Insufficient Storage"
	}
	return ""
}

func ok() *reply { return &reply{status: 200, mediaType: typeJSON} }

func okBody(mediaType string, body []byte) *reply {
	return &reply{status: 200, mediaType: mediaType, body: body}
}

// okJSON answers with v. Existing clients get neither escaped "<>&" nor a final newline.
func okJSON(v any) *reply {
	text, err := compact(v)
	if err != nil {
		return internal(fmt.Errorf("writing the answer: %w", err))
	}
	return okBody(typeJSON, text)
}

func compact(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// failure answers {"Error":"text"}, with details if there are any.
func failure(status int, text string, details ...string) *reply {
	body, err := compact(api.Refusal{Error: text, Details: details})
	if err != nil {
		body = []byte(`{"Error":"Internal Error"}`)
	}
	return &reply{status: status, mediaType: typeJSON, body: body}
}

// internal answers an error that is not meant for the client.
func internal(err error) *reply { return failure(500, "Internal error: "+err.Error()) }

// fromError answers an error of an [Engine] or another backend; nil is success.
func fromError(err error) *reply {
	var e *api.Error
	switch {
	case err == nil:
		return ok()
	case !errors.As(err, &e):
		return internal(err)
	}
	r := failure(e.Status, e.Text, e.Details...)
	r.retryAfter = e.RetryAfter
	return r
}

// unsupported is the answer to input that is not HTTP, or to an unknown method.
func unsupported(status int) *reply {
	return &reply{status: status, mediaType: typeHTML, body: []byte(`{"Error": "Unsupported protocol"}`), close: true}
}

// write sends the answer to req, which is nil when no request could be read. It
// reports whether the connection can be used again.
func (r *reply) write(w *bufio.Writer, req *request, now time.Time) (bool, error) {
	one := req == nil || req.Close || r.close
	version, chunked := "HTTP/1.1", r.stream != nil
	if req != nil && req.Minor == 0 {
		version, chunked = "HTTP/1.0", false
	}
	_, _ = w.WriteString(version + " " + strconv.Itoa(r.status) + " " + reason(r.status) + "\r\n")
	if r.retryAfter > 0 {
		fmt.Fprintf(w, "Retry-After: %d\r\n", r.retryAfter)
	}
	_, _ = w.WriteString("Content-Type: " + r.mediaType + "\r\nDate: ")
	_, _ = w.Write(now.UTC().AppendFormat(w.AvailableBuffer(), dateFormat))
	_, _ = w.WriteString("\r\n")
	silent := r.status == 204 || req != nil && req.method == "HEAD"
	switch {
	case silent:
	case chunked:
		_, _ = w.WriteString("Transfer-Encoding: chunked\r\n")
	case r.stream == nil:
		_, _ = w.WriteString("Content-Length: " + strconv.Itoa(len(r.body)) + "\r\n")
	}
	if one {
		_, _ = w.WriteString("Connection: close\r\n")
	}
	_, _ = w.WriteString("\r\n")
	if !silent {
		if err := r.writeBody(w, chunked); err != nil {
			return false, err
		}
	}
	return !one, w.Flush()
}

func (r *reply) writeBody(w *bufio.Writer, chunked bool) error {
	switch {
	case r.stream == nil:
		_, err := w.Write(r.body)
		return err
	case !chunked:
		return r.stream(w)
	}
	if err := r.stream(chunkWriter{w}); err != nil {
		return err
	}
	_, err := w.WriteString("0\r\n\r\n")
	return err
}

// chunkWriter writes each slice as one chunk.
type chunkWriter struct{ w *bufio.Writer }

// Write implements io.Writer.
func (c chunkWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	_, _ = c.w.WriteString(strconv.FormatInt(int64(len(p)), 16) + "\r\n")
	n, err := c.w.Write(p)
	if err == nil {
		_, err = c.w.WriteString("\r\n")
	}
	return n, err
}

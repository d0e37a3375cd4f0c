package web

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// static are the files of the page.
//
//go:embed static
var static embed.FS

// page adds the page and what it asks for. Of the control socket it reaches only what is
// listed here.
func (s *Server) page() {
	s.mux.Handle("GET /{$}", http.RedirectHandler("/app/", http.StatusFound))
	s.mux.Handle("GET /cgi-bin/{$}", http.RedirectHandler("/app/api.html", http.StatusFound))
	s.mux.HandleFunc("GET /app/", s.file)
	s.mux.HandleFunc("POST "+loginPath, s.login)
	s.mux.HandleFunc("GET /app/api/overview", s.overview)
	s.mux.HandleFunc("GET /app/api/sbom", s.sbom)
	for _, name := range []string{"steps", "updates", "groups"} {
		s.mux.HandleFunc("GET /app/api/"+name, func(w http.ResponseWriter, r *http.Request) { s.pass(w, r, "/"+name) })
	}
	s.mux.HandleFunc("POST /app/api/updates", func(w http.ResponseWriter, r *http.Request) { s.pass(w, r, "/updates") })
	s.mux.HandleFunc("DELETE /app/api/updates/{rev...}", s.cancel)
	s.mux.HandleFunc("PUT /app/api/containers/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.pass(w, r, "/containers/"+r.PathValue("name"))
	})
	key := func(w http.ResponseWriter, r *http.Request) { s.pass(w, r, deviceMeta+"/"+r.PathValue("key")) }
	s.mux.HandleFunc("PUT /app/api/device-meta/{key}", key)
	s.mux.HandleFunc("DELETE /app/api/device-meta/{key}", key)
}

// sbom answers with the bill of materials of a revision, as a file.
func (s *Server) sbom(w http.ResponseWriter, r *http.Request) {
	rev := revision(r)
	if !step.Valid(rev) {
		answer(w, http.StatusBadRequest, refusal{fmt.Sprintf("%.80q is not a valid revision", rev)})
		return
	}
	resp, err := s.o.Device.Ask(r.Context(), &client.Request{Path: "/steps/" + rev + "/sbom"})
	if err != nil {
		fail(w, err)
		return
	}
	defer resp.Close()
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Content-Disposition", `attachment; filename="device.spdx.json"`)
	_, _ = io.Copy(w, resp)
}

// types are the media types of the page's files.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// origin is what the pages have in place of the address that they are read from.
const origin = "__ORIGIN__"

func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[len("/app/"):]
	if name == "" {
		name = "index.html"
	}
	text, err := fs.ReadFile(static, "static/"+name)
	dot := bytes.LastIndexByte([]byte(name), '.')
	if err != nil || dot < 0 {
		answer(w, http.StatusNotFound, refusal{"there is no such page; /app/ is the first one"})
		return
	}
	w.Header().Set("Content-Type", types[name[dot:]])
	_, _ = w.Write(bytes.ReplaceAll(text, []byte(origin), []byte("http://"+html.EscapeString(r.Host))))
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	rev := r.PathValue("rev")
	if !step.Valid(rev) {
		answer(w, http.StatusBadRequest, refusal{fmt.Sprintf("%.80q is not a valid revision", rev)})
		return
	}
	s.pass(w, r, "/updates/"+rev)
}

// overview is what the page shows at all times. What the device did not answer is missing,
// with a line in Problems.
type overview struct {
	Revision    string          `json:"revision"`
	Progress    json.RawMessage `json:"progress"`
	Containers  json.RawMessage `json:"containers"`
	Updates     json.RawMessage `json:"updates"` // null from a device that does not list them
	Transaction string          `json:"transaction"`
	Warnings    []string        `json:"warnings"`
	Problems    []string        `json:"problems"`
}

func (s *Server) overview(w http.ResponseWriter, r *http.Request) {
	o := overview{Revision: s.running(r), Warnings: append([]string{}, s.o.Warnings...), Problems: []string{}}
	note := func(doc []byte, err error) json.RawMessage {
		if err != nil {
			o.Problems = append(o.Problems, message(err))
		}
		return doc
	}
	o.Containers = note(s.o.Device.Text(r.Context(), "/containers"))
	o.Progress = note(s.progress(r, revisionName))
	o.Updates, _ = s.o.Device.Text(r.Context(), "/updates")
	st, err := s.o.Transaction.Status()
	_ = note(nil, err)
	o.Transaction = st.Status
	answer(w, http.StatusOK, o)
}

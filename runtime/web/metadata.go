package web

import (
	"encoding/json"
	"net/http"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// metadata adds the metadata of cgi-bin/pvtx.
func (s *Server) metadata() {
	s.mux.HandleFunc("GET /cgi-bin/pvtx/get-config", s.getConfig)
	for _, method := range []string{"POST", "PUT"} {
		s.mux.HandleFunc(method+" /cgi-bin/pvtx/usermeta/save", s.saveUserMeta)
		s.mux.HandleFunc(method+" /cgi-bin/pvtx/usermeta/delete", s.deleteUserMeta)
	}
}

// Where the control socket has metadata.
const (
	userMeta   = "/user-meta"
	deviceMeta = "/device-meta"
)

func (s *Server) getConfig(w http.ResponseWriter, r *http.Request) {
	var out struct {
		Device json.RawMessage `json:"device"`
		User   json.RawMessage `json:"user"`
	}
	var err error
	if out.Device, err = s.o.Device.Text(r.Context(), deviceMeta); err == nil {
		out.User, err = s.o.Device.Text(r.Context(), userMeta)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, out)
}

// saveUserMeta sets the key of the query to the body. All answers have what is set then.
func (s *Server) saveUserMeta(w http.ResponseWriter, r *http.Request) {
	value, err := bounded.Read(r.Body, maxForm)
	if err != nil {
		fail(w, err)
		return
	}
	s.changeUserMeta(w, r, "PUT", string(value))
}

func (s *Server) deleteUserMeta(w http.ResponseWriter, r *http.Request) {
	s.changeUserMeta(w, r, "DELETE", "")
}

func (s *Server) changeUserMeta(w http.ResponseWriter, r *http.Request, method, value string) {
	key := r.URL.Query().Get("key")
	if key == "" {
		answer(w, http.StatusBadRequest, refusal{"the query has no key"})
		return
	}
	req := client.WithBody(method, userMeta+"/"+key, value)
	err := s.o.Device.Send(r.Context(), req)
	var all []byte
	if err == nil {
		all, err = s.o.Device.Text(r.Context(), userMeta)
	}
	if err != nil {
		fail(w, err)
		return
	}
	document(w, all)
}

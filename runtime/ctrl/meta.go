package ctrl

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// metaKey returns the key that the path names, KEY or, of user metadata, CONTAINER/KEY.
func metaKey(c *call) string { return strings.Join(c.names, "/") }

func listMeta(m Meta) *reply { return written(m.List) }

func (s *Server) setUserMeta(c *call) *reply    { return setMeta(c, s.o.UserMeta, "user") }
func (s *Server) deleteUserMeta(c *call) *reply { return deleteMeta(c, s.o.UserMeta, "User") }

// setContainerMeta stores user metadata for a container of the running revision. For any
// other name the path is unknown, as existing clients know it.
func (s *Server) setContainerMeta(c *call) *reply {
	list, err := s.o.Engine.Containers()
	if err != nil {
		return notLoaded(err)
	}
	if !slices.ContainsFunc(list, func(k api.Container) bool { return k.Name == c.names[0] }) {
		return c.unknownEndpoint()
	}
	return s.setUserMeta(c)
}

// setMeta stores the body under the key. An error of the Meta that wraps fs.ErrInvalid
// means a bad key or value.
func setMeta(c *call, m Meta, kind string) *reply {
	value, bad := c.content(limitMeta)
	if bad != nil {
		return bad
	}
	refused := failure(400, "Cannot add or update "+kind+" meta")
	if len(value) == 0 {
		return refused
	}
	err := m.Set(metaKey(c), string(value))
	switch {
	case errors.Is(err, fs.ErrInvalid):
		return refused
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return failure(507, textTooLarge)
	}
	return fromError(err)
}

// deleteMeta removes a key. An error of the Meta that wraps fs.ErrNotExist means that
// there is no such key.
func deleteMeta(c *call, m Meta, kind string) *reply {
	err := m.Delete(metaKey(c))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return failure(404, kind+" meta does not exist")
	}
	return fromError(err)
}

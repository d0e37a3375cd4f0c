package ctrl

import (
	"errors"
	"io/fs"
	"syscall"
)

func listMeta(m Meta) *reply { return written(m.List) }

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
	err := m.Set(c.name(), string(value))
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
	err := m.Delete(c.name())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return failure(404, kind+" meta does not exist")
	}
	return fromError(err)
}

package ctrl

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
	"github.com/pantavisor/pantavisor/runtime/space"
)

const (
	textObjectName = "Request has bad object name"
	textChecksum   = "Object has bad checksum"
	objectMode     = 0o644
	directoryMode  = 0o755
)

// isObjectName reports whether name is a SHA-256 digest in hexadecimal.
func isObjectName(name string) bool {
	if len(name) != 2*sha256.Size {
		return false
	}
	for _, c := range []byte(name) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (s *Server) listObjects(*call) *reply {
	files, err := os.ReadDir(s.o.Objects)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return internal(fmt.Errorf("listing objects: %w", err))
	}
	list := []api.Object{}
	for _, f := range files {
		st, err := f.Info()
		if err == nil && st.Mode().IsRegular() && isObjectName(f.Name()) {
			list = append(list, api.Object{SHA256: f.Name(), Size: strconv.FormatInt(st.Size(), 10)})
		}
	}
	return okJSON(list)
}

func (s *Server) getObject(c *call) *reply {
	if !isObjectName(c.name()) {
		return failure(400, textObjectName)
	}
	f, err := os.Open(filepath.Join(s.o.Objects, c.name()))
	if err != nil {
		return failure(400, textObjectName)
	}
	return &reply{status: 200, mediaType: typeBinary, stream: func(w io.Writer) error {
		defer f.Close()
		_, err := http1.Copy(w, f)
		return err
	}}
}

// putObject stores the body under its digest. The object gets its name only when it is
// complete and correct. A correct object that exists is never replaced: trails have hard
// links to it.
func (s *Server) putObject(c *call) *reply {
	name := c.name()
	switch {
	case len(name) != 2*sha256.Size:
		return failure(400, textObjectName)
	case !isObjectName(name):
		return failure(422, textChecksum)
	}
	s.o.Steps.Came(name)
	if s.haveObject(name) {
		_, err := http1.Copy(io.Discard, attended{c})
		c.busy()
		if err != nil {
			return brokenBody(err)
		}
		return ok()
	}
	return s.storeObject(c, name)
}

// haveObject reports whether the store has an object, whose content is right. It is hashed
// unless it is known to be verified.
func (s *Server) haveObject(name string) bool {
	path := filepath.Join(s.o.Objects, name)
	return s.o.Verified.Check(path, name, func() error {
		have, err := hashFile(path)
		if err == nil && have != name {
			err = errDamaged
		}
		return err
	}) == nil
}

var errDamaged = errors.New("its content is not that of its name")

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := http1.Copy(h, f); err != nil {
		return "", fmt.Errorf("hashing %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// storeObject stores the body. Its space is reserved before it is read, or, when its
// length is unknown, as it comes.
func (s *Server) storeObject(c *call, name string) *reply {
	if err := os.MkdirAll(s.o.Objects, directoryMode); err != nil {
		return storageError(fmt.Errorf("making the object store: %w", err))
	}
	room, err := s.o.Space.Reserve(c.body.Announced())
	if err != nil {
		return storageError(err)
	}
	defer room.Release()
	f, err := atomicfile.Create(filepath.Join(s.o.Objects, name), objectMode)
	if err != nil {
		return storageError(err)
	}
	defer f.Abort()
	to := &sink{file: f, hash: sha256.New(), room: room}
	_, err = http1.Copy(to, attended{c})
	c.busy()
	if err != nil {
		if to.err != nil {
			return storageError(to.err)
		}
		return brokenBody(err)
	}
	if hex.EncodeToString(to.hash.Sum(nil)) != name {
		return failure(422, textChecksum)
	}
	s.o.Verified.Set(f.File, name)
	if err := f.Commit(); err != nil {
		return storageError(err)
	}
	s.o.Steps.Came(name)
	if s.o.ObjectStored != nil {
		s.o.ObjectStored(name)
	}
	return ok()
}

// attended is a body that marks the connection as waiting for its client at each read.
type attended struct{ c *call }

// Read implements io.Reader.
func (a attended) Read(p []byte) (int, error) {
	a.c.waiting()
	return a.c.body.Read(p)
}

// sink is a new object. It distinguishes errors of the storage from those of the client.
type sink struct {
	file io.Writer
	hash hash.Hash
	room *space.Reservation
	err  error
}

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	n, err := 0, s.room.Use(int64(len(p)))
	if err == nil {
		n, err = s.file.Write(p)
	}
	if err != nil {
		s.err = fmt.Errorf("storing an object: %w", err)
		return n, err
	}
	return s.hash.Write(p)
}

// storageError answers what could not be stored; with the numbers, when it did not fit.
func storageError(err error) *reply {
	if full, ok := errors.AsType[*space.Error](err); ok {
		return failure(507, textTooLarge, full.Error())
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return failure(507, textTooLarge)
	}
	return internal(err)
}

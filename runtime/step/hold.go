package step

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Holds keep objects that no revision names yet, those of an open transaction, from being
// garbage. A hold is a file of SHA-256, a line each, in <storage>/holds; its name is a digest of
// its owner and the owner's name for it.
const (
	holdsDir = "holds"
	// holdTime is how long a hold counts after it was made or renewed: its owner may be gone.
	holdTime = 7 * 24 * time.Hour
	// maxHolds bounds the holds of a device, maxHold one of them in bytes.
	maxHolds = 64
	maxHold  = 64 << 20
)

// ErrHolds is the error for one hold too many.
var ErrHolds = fmt.Errorf("there are %d holds; release one of them", maxHolds)

func (s *Store) holds() string { return filepath.Join(filepath.Dir(s.trails), holdsDir) }

func (s *Store) hold(owner, name string) string {
	sum := sha256.Sum256([]byte(owner + "\x00" + name))
	return filepath.Join(s.holds(), hex.EncodeToString(sum[:]))
}

// Hold keeps objects, which need not exist yet, for as long as a week. It replaces an earlier
// hold of the same owner and name.
func (s *Store) Hold(owner, name string, sums []string) error {
	defer s.Pin()()
	path := s.hold(owner, name)
	text := strings.Join(sums, "\n")
	if len(text) > maxHold {
		return fmt.Errorf("holding objects: more than %d bytes of names", maxHold)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.heldFiles()
	if _, missing := os.Lstat(path); err == nil && missing != nil && len(files) >= maxHolds {
		err = ErrHolds
	}
	if err == nil {
		err = os.MkdirAll(s.holds(), dirMode)
	}
	if err == nil {
		err = atomicfile.Write(path, []byte(text), fileMode)
	}
	if err != nil {
		return fmt.Errorf("holding objects: %w", err)
	}
	s.recent.add(path)
	return nil
}

// Release ends a hold. It is not an error when there is none.
func (s *Store) Release(owner, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(s.hold(owner, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("releasing held objects: %w", err)
	}
	return nil
}

// heldFiles returns the paths of all holds.
func (s *Store) heldFiles() (paths []string, err error) {
	entries, err := os.ReadDir(s.holds())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && state.IsSum(e.Name()) {
			paths = append(paths, filepath.Join(s.holds(), e.Name()))
		}
	}
	return paths, nil
}

// held adds the objects that are held to used. Holds that no longer count are over.
func (s *Store) held(used map[string]bool, now time.Time) (over []string, err error) {
	paths, err := s.heldFiles()
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if s.over(path, now) {
			over = append(over, path)
			continue
		}
		text, err := bounded.ReadFile(path, maxHold)
		if errors.Is(err, fs.ErrNotExist) { // released just now
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			used[string(line)] = true
		}
	}
	return over, nil
}

// over reports whether a hold no longer counts. One whose time is to come was made before the
// clock was set back, and counts.
func (s *Store) over(path string, now time.Time) bool {
	if s.recent.since(path, now) < holdTime {
		return false
	}
	st, err := os.Lstat(path)
	return err == nil && now.Sub(st.ModTime()) >= holdTime
}

package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// stamp says what a directory was made of.
type stamp struct {
	// List is the digest of the list with the digests of all inputs, Program that of this program.
	List    string `json:"list"`
	Program string `json:"program"`
}

// stampFile is in the output directory while its content is that of the stamp.
const stampFile = ".build/made.json"

// What is read in an output directory is bounded, in bytes.
const (
	maxStamp  = 4 << 10
	maxReport = 16 << 20
)

// stamp returns that of the list, which must have all digests.
func (l *List) stamp(ctx context.Context) (*stamp, error) {
	pinned, err := l.pinned()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for this program")
	}
	sum := sha256.Sum256([]byte(pinned.Text))
	s := &stamp{List: hex.EncodeToString(sum[:])}
	s.Program, err = fragment.Digest(ctx, program)
	return s, fault.Wrap(fault.IO, err, "reading this program")
}

// cacheName is the form of names in the directory of [Options.Cache], with the beginning of a
// program's digest: steps of two programs may make different outputs of the same inputs. What has
// other names there is somebody else's.
var cacheName = regexp.MustCompile(`^pvcompose-[0-9a-f]{16}$`)

// cache returns the directory for the cache of this program in that of all, and removes those of other
// ones that are not in use.
func (s *stamp) cache(dir string) (string, error) {
	own := "pvcompose-" + s.Program[:16]
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap(fault.IO, err, "reading the cache")
	}
	for _, e := range entries {
		if e.IsDir() && cacheName.MatchString(e.Name()) && e.Name() != own {
			if err := build.Discard(filepath.Join(dir, e.Name())); err != nil {
				return "", fault.Wrap(fault.IO, err, "removing the cache of another pvcompose")
			}
		}
	}
	own = filepath.Join(dir, own)
	return own, fault.Wrap(fault.IO, os.MkdirAll(own, 0o755), "making the cache")
}

// unchanged returns the report of the composition into a directory that has what the stamp makes;
// nil for another one.
func (s *stamp) unchanged(dir string) *build.Report {
	old, report := &stamp{}, &build.Report{}
	if !readValue(filepath.Join(dir, stampFile), maxStamp, old) || *old != *s || !build.Current(dir) ||
		!readValue(filepath.Join(dir, build.ReportName), maxReport, report) {
		return nil
	}
	return report
}

// readValue reads a file of an output directory; what cannot be read is made again.
func readValue(file string, limit int64, to any) bool {
	text, err := bounded.ReadRegular(file, limit)
	return err == nil && json.Unmarshal(text, to) == nil
}

// save writes the stamp into a directory.
func (s *stamp) save(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing what the outputs are made of")
	}
	return fault.Wrap(fault.IO, atomicfile.Write(filepath.Join(dir, stampFile), append(text, '\n'), 0o644), "writing what the outputs are made of")
}

// forget removes the stamp before anything else is written.
func forget(dir string) error {
	err := os.Remove(filepath.Join(dir, stampFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Wrap(fault.IO, err, "composing into %s", dir)
}

// tell says that a directory is as it would be made.
func (o Options) tell(target, dir string) {
	if o.Sink != nil {
		o.Sink.Event(build.Event{Time: time.Now(), Type: build.Message, Target: target, Step: (*listStep)(nil).Name(), Text: fmt.Sprintf("%s is unchanged: it was made of the same inputs", dir)})
	}
}

package pvcontrol

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// install stores the objects and then the state of an export, a gzip-compressed
// tarball with "json" and "objects/SHA256". Objects and steps that the device has
// are not sent again. It prints the revision only when all of it is there.
func install(t *tool, args []string) error {
	t.client.Timeout = objectTimeout
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	rev, err := revisionName(f, args[1:])
	if err != nil {
		return err
	}
	state, err := t.sendObjects(f, args[0])
	if err != nil {
		return err
	}
	if err := t.sendStep(rev, state); err != nil {
		return err
	}
	return t.output(strings.NewReader(fmt.Sprintf(`{"revision":%q}`, rev)), true)
}

// revisionName is the one asked for, or locals/ and the digest of the tarball.
func revisionName(f *os.File, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hashing %s: %w", f.Name(), err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return "locals/" + hex.EncodeToString(h.Sum(nil)), nil
}

// sendObjects sends what the device lacks and returns the state.
func (t *tool) sendObjects(r io.Reader, name string) ([]byte, error) {
	var stored []api.Object
	if err := t.fetch("/objects", &stored); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, o := range stored {
		have[o.SHA256] = true
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	archive := tar.NewReader(z)
	var state []byte
	for {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && state == nil:
			return nil, fmt.Errorf("reading %s: there is no file \"json\" in it", name)
		case errors.Is(err, io.EOF):
			return state, nil
		case err != nil:
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		member := strings.TrimPrefix(h.Name, "./")
		sha, object := strings.CutPrefix(member, "objects/")
		switch {
		case h.Typeflag != tar.TypeReg:
		case member == "json":
			if state, err = readAll(archive); err != nil {
				return nil, err
			}
		case object && !have[sha]:
			if err := t.quiet(&client.Request{Method: "PUT", Path: "/objects/" + sha, Body: archive, Size: h.Size}); err != nil {
				return nil, fmt.Errorf("sending object %s: %w", sha, err)
			}
			have[sha] = true
		}
	}
}

func (t *tool) sendStep(rev string, state []byte) error {
	var steps []api.Step
	if err := t.fetch("/steps", &steps); err != nil {
		return err
	}
	for _, s := range steps {
		if s.Name == rev {
			return t.commitMessage(rev)
		}
	}
	if err := t.quiet(withBody("PUT", "/steps/"+rev, string(state))); err != nil {
		return err
	}
	return t.commitMessage(rev)
}

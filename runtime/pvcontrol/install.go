package pvcontrol

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pantavisor/pantavisor/revision/archive/unpack"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// install stores the objects and then the state of an export, see [unpack.Any]. Objects of
// the running revision, and a step that the device has, are not sent again. It prints the
// revision only when all of it is there.
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
	st, err := t.sendObjects(f, args[0])
	if err != nil {
		return err
	}
	if err := t.sendStep(rev, st); err != nil {
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

// sendObjects sends what the running revision lacks and returns the state.
func (t *tool) sendObjects(r io.Reader, name string) (*state.State, error) {
	st, err := unpack.Any(t.ctx, r, unpack.Options{Named: true, Put: t.client.Upload(t.ctx)})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return st, nil
}

func (t *tool) sendStep(rev string, st *state.State) error {
	var steps []api.Step
	if err := t.client.Fetch(t.ctx, "/steps", &steps); err != nil {
		return err
	}
	for _, s := range steps {
		if s.Name == rev {
			return t.commitMessage(rev)
		}
	}
	if err := t.client.Send(t.ctx, client.WithBody("PUT", "/steps/"+rev, string(st.Raw()))); err != nil {
		return err
	}
	return t.commitMessage(rev)
}

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// Token is an entry of auth.json, for one endpoint and realm.
type Token struct {
	Name    string `json:"Name"`
	Access  string `json:"access-token"`
	Refresh string `json:"refresh-token"`
}

// tokenStore is the file auth.json of a configuration directory. Concurrent commands
// share it: every change reads the file again under a lock.
type tokenStore struct{ dir string }

// newTokens returns the tokens of a configuration directory, which need not exist.
func newTokens(dir string) *tokenStore { return &tokenStore{dir} }

// Path returns the file's name.
func (t *tokenStore) Path() string { return filepath.Join(t.dir, "auth.json") }

type tokenFile struct {
	Spec   string           `json:"spec"`
	Tokens map[string]Token `json:"tokens"`
}

// maxTokens bounds the file that is read, in bytes.
const maxTokens = 8 << 20

// Load reads all tokens by their keys, see [Challenge.Key]. A missing file counts as
// empty.
func (t *tokenStore) Load() (map[string]Token, error) {
	doc, err := t.read()
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading tokens")
	}
	return doc.Tokens, nil
}

func (t *tokenStore) read() (tokenFile, error) {
	empty := tokenFile{Spec: "1", Tokens: map[string]Token{}}
	info, err := os.Stat(t.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	if info.Size() > maxTokens {
		return empty, fmt.Errorf("%s has %d bytes, at most %d are allowed", t.Path(), info.Size(), maxTokens)
	}
	data, err := os.ReadFile(t.Path())
	if err != nil {
		return empty, err
	}
	doc := empty
	if err := json.Unmarshal(data, &doc); err != nil {
		return empty, fmt.Errorf("%s: %w; remove the file and log in again", t.Path(), err)
	}
	if doc.Tokens == nil {
		doc.Tokens = map[string]Token{}
	}
	return doc, nil
}

// Keys returns the keys of all tokens, sorted.
func (t *tokenStore) Keys() ([]string, error) {
	all, err := t.Load()
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(all))
	for key := range all {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys, nil
}

// Get returns one token, or the zero Token when there is none.
func (t *tokenStore) Get(key string) (Token, error) {
	all, err := t.Load()
	return all[key], err
}

// Put saves a token for later commands, as access and as refresh token.
func (t *tokenStore) Put(ctx context.Context, key, token string) error {
	return t.update(ctx, func(doc *tokenFile) {
		old := doc.Tokens[key]
		doc.Tokens[key] = Token{Name: old.Name, Access: token, Refresh: token}
	})
}

// Delete removes a token.
func (t *tokenStore) Delete(ctx context.Context, key string) error {
	return t.update(ctx, func(doc *tokenFile) { delete(doc.Tokens, key) })
}

func (t *tokenStore) update(ctx context.Context, change func(*tokenFile)) error {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return fault.Wrap(fault.IO, err, "creating the configuration directory")
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(t.dir, ".auth.lock"), filelock.Options{Create: 0o600})
	if err != nil {
		return fault.Wrap(fault.IO, err, "locking %s", t.Path())
	}
	defer lock.Unlock()
	doc, err := t.read()
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading tokens")
	}
	change(&doc)
	data, err := json.MarshalIndent(doc, "", "    ")
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding tokens")
	}
	return fault.Wrap(fault.IO, atomicfile.Write(t.Path(), data, 0o600), "keeping tokens")
}

// wait sleeps until the context ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

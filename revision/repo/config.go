package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// Config is what .pvr/config holds.
type Config struct {
	// DefaultGetUrl, DefaultPutUrl and DefaultPostUrl are spelled as in the file.
	DefaultGetUrl  string
	DefaultPutUrl  string
	DefaultPostUrl string
	// ObjectsDir is the object store: absolute, or relative to the checkout;
	// empty for .pvr/objects.
	ObjectsDir string
	// AccessTokens and RefreshTokens are preserved for older tools; this one never
	// adds to them.
	AccessTokens  map[string]string
	RefreshTokens map[string]string
}

// maxConfig bounds the file in bytes.
const maxConfig = 1 << 20

func readConfig(dot string) (Config, error) {
	var c Config
	text, err := bounded.ReadFile(filepath.Join(dot, "config"), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("reading the repository's settings: %w", err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("reading %s: %w", filepath.Join(dot, "config"), err)
	}
	return c, nil
}

func (c Config) write(dot string) error {
	if c.AccessTokens == nil {
		c.AccessTokens = map[string]string{}
	}
	if c.RefreshTokens == nil {
		c.RefreshTokens = map[string]string{}
	}
	text, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return fmt.Errorf("writing the repository's settings: %w", err)
	}
	return atomicfile.Write(filepath.Join(dot, "config"), text, 0o644)
}

// objectsIn returns the directory of the object store for a checkout in dir.
func (c Config) objectsIn(dir string) string {
	switch {
	case c.ObjectsDir == "":
		return filepath.Join(dir, Dir, "objects")
	case filepath.IsAbs(c.ObjectsDir):
		return filepath.Clean(c.ObjectsDir)
	}
	return filepath.Join(dir, c.ObjectsDir)
}

// remember records where a state came from: always as the source of the next get,
// and for a remote also as the destination of put and post unless they have one.
func (c *Config) remember(ref string, remote bool) {
	c.DefaultGetUrl = ref
	if !remote {
		return
	}
	if c.DefaultPutUrl == "" {
		c.DefaultPutUrl = ref
	}
	if c.DefaultPostUrl == "" {
		c.DefaultPostUrl = ref
	}
}

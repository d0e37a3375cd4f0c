package gosource

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"go/build"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/filesig"
)

// contents is what a directory has for one platform.
type contents struct {
	Files   []string `json:"files"`   // names of those that are compiled
	Imports []string `json:"imports"` // import paths
	Embeds  []string `json:"embeds"`  // patterns of //go:embed
}

// contents reads the Go files of a directory, or recalls what an earlier build has read
// when neither a name nor the attributes of a file have changed since. Files that embedding
// finds are not part of it.
func (m *Module) contents(ctx *build.Context, directory string) (contents, error) {
	if m.Memory == nil {
		return readContents(ctx, directory)
	}
	entry := "go package:" + strings.Join(slices.Concat([]string{ctx.GOOS, ctx.GOARCH}, ctx.BuildTags, []string{"+"}, ctx.ToolTags, ctx.ReleaseTags[len(ctx.ReleaseTags)-1:]), ",") + ":" + directory
	before, err := m.signature(directory)
	if err != nil {
		return contents{}, err
	}
	var c contents
	if text, ok := m.Memory.Recall(entry, before.id); ok && json.Unmarshal([]byte(text), &c) == nil {
		return c, nil
	}
	if c, err = readContents(ctx, directory); err != nil || !before.settled {
		return c, err
	}
	if after, err := signature(directory); err == nil && after.id == before.id {
		if text, err := json.Marshal(c); err == nil {
			m.Memory.Keep(entry, before.id, string(text))
		}
	}
	return c, nil
}

func readContents(ctx *build.Context, directory string) (contents, error) {
	p, err := ctx.ImportDir(directory, 0)
	if err != nil {
		return contents{}, err
	}
	return contents{slices.Concat(p.GoFiles, p.SFiles, p.HFiles, p.SysoFiles), p.Imports, p.EmbedPatterns}, nil
}

// signed is what must stay the same for the contents of a directory to be the same: the
// names and attributes of its files, without those of tests.
type signed struct {
	id      string
	settled bool // false while a file may change without another id
}

// signature returns the signature that a directory has had in this build.
func (m *Module) signature(directory string) (signed, error) {
	if known, ok := m.signed[directory]; ok {
		return known, nil
	}
	s, err := signature(directory)
	if err == nil {
		m.signed[directory] = s
	}
	return s, err
}

func signature(directory string) (signed, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return signed{}, err
	}
	now := time.Now()
	sum := sha256.New()
	settled := true
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		info, err := os.Stat(filepath.Join(directory, e.Name()))
		if os.IsNotExist(err) {
			continue // a link that leads nowhere
		}
		if err != nil {
			return signed{}, err
		}
		settled = settled && filesig.Settled(info, now)
		_, _ = io.WriteString(sum, strconv.Quote(e.Name())+" "+filesig.Of(info)+"\n") // a hash takes everything
	}
	return signed{hex.EncodeToString(sum.Sum(nil)), settled}, nil
}

package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/objects"
)

// indexed is the place of an entry of a list.
func indexed(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }

// stepName is the name of the step for an input.
func stepName(input string) string {
	return "input/" + strings.NewReplacer("[", "/", "].", "/", "]", "").Replace(input)
}

// exportStep is the step that takes the parts of an export.
type exportStep struct {
	Input, SHA256 string
	path          string
}

var _ build.Step = (*exportStep)(nil)

// Name is "input/" and the place in the list.
func (s *exportStep) Name() string { return stepName(s.Input) }

// Deps is empty.
func (s *exportStep) Deps() []build.Step { return nil }

// Run unpacks the export. Every object is compared with its digest.
func (s *exportStep) Run(ctx context.Context, w *build.Work) error {
	return origin{s.Input, s.path, "an export, as pvr export writes it"}.wrong(s.unpack(ctx, w.Out))
}

func (s *exportStep) unpack(ctx context.Context, out string) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := fragment.Create(out)
	if err != nil {
		return err
	}
	store, err := objects.Open(filepath.Join(out, fragment.Objects))
	if err != nil {
		return err
	}
	sum := sha256.New()
	all := io.TeeReader(ctxio.Reader(ctx, f), sum)
	if p.State, err = archive.Import(ctx, all, store, archive.ImportOptions{}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != s.SHA256 {
		return changed(s.path)
	}
	return p.Close()
}

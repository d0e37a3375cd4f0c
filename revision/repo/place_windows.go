package repo

import (
	"errors"
	"os"
	"path"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
)

// placer moves files from the stage into directories.
type placer struct {
	root        *os.Root
	stage, name string
}

func newPlacer(root *os.Root, stage string) (*placer, error) {
	return &placer{root: root, stage: stage}, nil
}

func (p *placer) close() {}

// enter chooses a directory, which is created when it is missing.
func (p *placer) enter(name string) error {
	if p.name == name {
		return nil
	}
	p.name = name
	if name == "." {
		return nil
	}
	return p.root.MkdirAll(name, 0o755)
}

// move gives a staged file its name. Windows replaces no read-only file, as a checkout with
// hard links has them: it is removed first.
func (p *placer) move(temp, base string) error {
	to := path.Join(p.name, base)
	return atomicfile.RetryBusy(func() error {
		err := p.root.Rename(path.Join(p.stage, temp), to)
		if info, statErr := p.root.Lstat(to); err != nil && statErr == nil && info.Mode().IsRegular() && info.Mode()&0o200 == 0 {
			err = errors.Join(p.root.Remove(to), p.root.Rename(path.Join(p.stage, temp), to))
		}
		return err
	})
}

//go:build unix

package repo

import (
	"os"

	"golang.org/x/sys/unix"
)

// placer moves files from the stage into directories. The files of a directory are
// adjacent, so it is opened once for all of them.
type placer struct {
	root  *os.Root
	stage *os.File
	name  string
	dir   *os.File
}

func newPlacer(root *os.Root, stage string) (*placer, error) {
	dir, err := root.Open(stage)
	if err != nil {
		return nil, err
	}
	return &placer{root: root, stage: dir}, nil
}

// enter opens a directory, which is created when it is missing.
func (p *placer) enter(name string) error {
	if p.dir != nil && p.name == name {
		return nil
	}
	p.leave()
	if name != "." {
		if err := p.root.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	dir, err := p.root.Open(name)
	if err != nil {
		return err
	}
	p.dir, p.name = dir, name
	return nil
}

func (p *placer) leave() {
	if p.dir != nil {
		_ = p.dir.Close()
		p.dir = nil
	}
}

// move gives a staged file its name.
func (p *placer) move(temp, base string) error {
	return unix.Renameat(int(p.stage.Fd()), temp, int(p.dir.Fd()), base)
}

func (p *placer) close() {
	p.leave()
	_ = p.stage.Close()
}

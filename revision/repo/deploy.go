package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// errForeign is wrapped by the error of CanDeploy.
var errForeign = errors.New("the directory has files and no repository")

// CanDeploy returns an error for a directory without a repository that holds files,
// because a deployment would delete them.
func CanDeploy(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, Dir)); err != nil && len(entries) > 0 {
		return fmt.Errorf("deploying to %s: %w; empty it, or run pvr init in it", dir, errForeign)
	}
	return nil
}

// Clean deletes the files of the checkout that are not in the committed state, and
// directories that become empty. It never deletes the object store.
func (r *Repo) Clean(ctx context.Context) error {
	if err := r.writable(); err != nil {
		return err
	}
	if _, err := r.clean(ctx, r.dir, "", r.storeKey()); err != nil {
		return at(StageClean, fmt.Errorf("removing untracked files: %w", err))
	}
	return nil
}

// clean cleans a directory and reports whether it is empty now.
func (r *Repo) clean(ctx context.Context, dir, key, store string) (empty bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil || ctx.Err() != nil {
		return false, errors.Join(err, ctx.Err())
	}
	left := len(entries)
	for _, e := range entries {
		name, path := key+e.Name(), filepath.Join(dir, e.Name())
		if name == Dir || name == ".pv" || name == store && e.IsDir() {
			continue
		}
		remove := !e.IsDir()
		if e.IsDir() {
			remove, err = r.clean(ctx, path, name+"/", store)
		} else if _, ok := r.committed.Value(name); ok {
			remove = false
		}
		if err == nil && remove {
			left--
			err = os.Remove(path)
		}
		if err != nil {
			return false, err
		}
	}
	return left == 0, nil
}

// BootLinks makes the links in .pv under which a boot loader finds the files of
// the BSP (bsp/run.json): pantavisor.fit, or else pv-kernel.img, pv-initrd.img and
// pv-fdt.dtb. Files that the state does not hold get no link; links of an earlier
// deployment are removed.
func (r *Repo) BootLinks() error {
	if err := r.writable(); err != nil {
		return err
	}
	dir := filepath.Join(r.dir, ".pv")
	if err := os.RemoveAll(dir); err != nil {
		return at(StageBoot, fmt.Errorf("removing boot links: %w", err))
	}
	for name, key := range bootFiles(r.committed) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return at(StageBoot, fmt.Errorf("making boot links: %w", err))
		}
		err := os.Link(filepath.Join(r.dir, key), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return at(StageBoot, fmt.Errorf("making boot links: %w", err))
		}
	}
	return nil
}

// bootFiles returns link names with the state's keys.
func bootFiles(st *state.State) map[string]string {
	run, ok := st.Value("bsp/run.json")
	if !ok {
		return nil
	}
	out := map[string]string{}
	link := func(name string, files ...string) {
		for _, f := range files {
			key := "bsp/" + f
			if _, ok := st.Object(key); ok && f != "" {
				out[name] = key
				return
			}
		}
	}
	if fit := member(run, "fit"); fit != "" {
		link("pantavisor.fit", fit)
		return out
	}
	if kernel := member(run, "kernel"); kernel != "" {
		link("pv-kernel.img", kernel)
	} else {
		link("pv-kernel.img", member(run, "linux"), "kernel.img")
	}
	link("pv-initrd.img", member(run, "initrd"), "pantavisor")
	link("pv-fdt.dtb", member(run, "fdt"))
	return out
}

func member(v canon.Value, name string) string {
	m, _ := v.Get(name)
	text, _ := m.Text()
	return text
}

// rename gives a directory another name; an empty directory there is replaced.
func rename(from, to string) error {
	if info, err := os.Lstat(to); err == nil && info.IsDir() {
		if err := os.Remove(to); err != nil {
			return err
		}
	}
	return atomicfile.Rename(from, to)
}

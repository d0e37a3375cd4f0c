package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/formats/verity"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/dm"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// SplitVolume reads CONTAINER VOLUME or CONTAINER/VOLUME, the arguments of pvr
// dm-convert.
func SplitVolume(args ...string) (container, volume string, err error) {
	switch len(args) {
	case 1:
		container, volume, _ = strings.Cut(args[0], "/")
	case 2:
		container, volume = strings.Trim(args[0], "/"), args[1]
	}
	if !element(container) || !element(volume) {
		return "", "", fault.New(fault.BadInput, "volume could not be found: CONTAINER VOLUME or CONTAINER/VOLUME is expected")
	}
	return container, volume, nil
}

// element reports whether a text is a single element of a path below the checkout.
func element(text string) bool {
	return !strings.Contains(text, "/") && state.CheckKey(text) == nil
}

// ConvertDM makes a volume of a container mount through dm-verity: it makes the hash
// tree with a new salt and UUID and its manifest, and records it in run.json and, if it
// exists, src.json (manual: pvr dm-convert).
func (w *Workspace) ConvertDM(ctx context.Context, container, volume string) (*Result, error) {
	if _, _, err := SplitVolume(container, volume); err != nil {
		return nil, err
	}
	w.say(container, "", "container=%s volume=%s", container, volume)
	r := &Result{}
	if err := w.convert(ctx, container, volume, r); err != nil {
		return nil, fmt.Errorf("converting volume %s of %s: %w", volume, container, err)
	}
	return r, nil
}

func (w *Workspace) convert(ctx context.Context, container, volume string, r *Result) error {
	c, err := w.openDirectory(w.directory(container))
	if err != nil {
		return err
	}
	defer c.abort()
	manifest, err := w.readManifest(dm.Manifest(container, volume))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	manifest = with(with(manifest, dm.Devices(volume)...), dm.Seed()...)
	if err := w.protect(ctx, c, container, volume, manifest, r); err != nil {
		return err
	}
	if err := w.refer(c, container, volume, r); err != nil {
		return err
	}
	return c.commit()
}

// seeded returns the manifest with a new salt or UUID if it has none.
func seeded(manifest canon.Value) canon.Value {
	for _, m := range dm.Seed() {
		if text(manifest, m.Name) == "" {
			manifest = with(manifest, m)
		}
	}
	return manifest
}

// openDirectory begins a change in a directory that must exist.
func (w *Workspace) openDirectory(dir string) (*change, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fault.New(fault.BadInput, "%s is not a directory of this checkout", filepath.Base(dir))
	}
	return w.change(dir)
}

func with(v canon.Value, members ...canon.Member) canon.Value {
	return canon.Obj(append(append([]canon.Member(nil), v.Members()...), members...)...)
}

func (w *Workspace) readManifest(key string) (canon.Value, error) {
	text, err := os.ReadFile(filepath.Join(w.Dir, filepath.FromSlash(key)))
	if err != nil {
		return canon.Value{}, fmt.Errorf("reading the manifest: %w", err)
	}
	v, err := readObject(key, text)
	if err != nil {
		return v, err
	}
	return v, nil
}

// protect stages a volume's hash tree and manifest.
func (w *Workspace) protect(ctx context.Context, c *change, container, name string, manifest canon.Value, r *Result) error {
	data, hashes := text(manifest, "data_device"), text(manifest, "hash_device")
	if !element(data) || !element(hashes) {
		return fault.New(fault.BadInput, "manifest of %s: data_device and hash_device must be names of files beside it", name)
	}
	tree, manifest, err := dm.Hash(ctx, manifest, filepath.Join(c.final, data))
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", name, err)
	}
	out, err := c.create(hashes)
	if err != nil {
		return err
	}
	if err := errors.Join(out.Chmod(0o600), writeTree(out, tree)); err != nil {
		return err
	}
	key := dm.Manifest(container, name)
	if err := c.write(dm.Directory+"/"+name+".json", manifest.Encode()); err != nil {
		return err
	}
	r.Written = append(r.Written, container+"/"+hashes, key)
	r.Tracked = append(r.Tracked, key, container+"/"+hashes)
	w.updated(container, key)
	return nil
}

func (w *Workspace) updated(container, key string) {
	w.say(container, key, "- Updated %s", filepath.Join(w.Dir, filepath.FromSlash(key)))
}

func writeTree(f *atomicfile.File, tree *verity.Tree) error {
	_, err := tree.WriteTo(f)
	return err
}

func text(v canon.Value, member string) string {
	m, _ := v.Get(member)
	t, _ := m.Text()
	return t
}

// refer stages run.json and src.json with the volume mounted by the device mapper.
func (w *Workspace) refer(c *change, container, volume string, r *Result) error {
	run, err := w.readManifest(container + "/" + runName)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "%s", container)
	}
	if run, err = mapped(run, volume); err != nil {
		return fmt.Errorf("%s/%s: %w", container, runName, err)
	}
	if err := c.write(runName, run.Encode()); err != nil {
		return err
	}
	r.Written = append(r.Written, container+"/"+runName)
	w.updated(container, container+"/"+runName)
	src, err := readSource(filepath.Join(c.final, SourceName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	src.enable(volume)
	r.Written = append(r.Written, container+"/"+SourceName)
	return c.write(SourceName, src.Encode())
}

// mapped puts "dm:" before a volume in run.json.
func mapped(run canon.Value, volume string) (canon.Value, error) {
	is := func(v canon.Value) bool { t, _ := v.Text(); return t == volume || t == "dm:"+volume }
	for _, member := range []string{"modules", "firmware", "root-volume"} {
		if v, _ := run.Get(member); is(v) {
			return with(run, canon.Member{Name: member, Value: canon.Str("dm:" + volume)}), nil
		}
	}
	volumes, _ := run.Get("volumes")
	list, found := append([]canon.Value(nil), volumes.Elems()...), false
	for i, v := range list {
		if is(v) {
			list[i], found = canon.Str("dm:"+volume), true
		}
	}
	if !found {
		return run, fault.New(fault.BadInput, "it does not mount %s", volume)
	}
	return with(run, canon.Member{Name: "volumes", Value: canon.List(list...)}), nil
}

// ApplyDM renews the hash trees of the device mapper manifests among keys, the
// keys of the working state, that begin with prefix (manual: pvr dm-apply). Salt
// and UUID stay, so that unchanged volumes get the same trees.
func (w *Workspace) ApplyDM(ctx context.Context, keys []string, prefix string) (*Result, error) {
	r, found := &Result{}, false
	for _, key := range keys {
		if !strings.HasPrefix(key, prefix) || !strings.Contains(key, "/"+dm.Directory+"/") || !strings.HasSuffix(key, ".json") {
			continue
		}
		found = true
		if err := w.apply(ctx, key, r); err != nil {
			return r, fmt.Errorf("renewing the hash tree of %s: %w", key, err)
		}
	}
	if prefix != "" && !found {
		w.notice("", "WARN: no mapping of a volume begins with %s", prefix)
	}
	return r, nil
}

func (w *Workspace) apply(ctx context.Context, key string, r *Result) error {
	if err := state.CheckKey(key); err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the key")
	}
	container, file, _ := strings.Cut(key, "/"+dm.Directory+"/")
	name := strings.TrimSuffix(file, ".json")
	if !element(name) || !element(container) {
		return fault.New(fault.BadInput, "CONTAINER/%s/VOLUME.json is expected", dm.Directory)
	}
	manifest, err := w.readManifest(key)
	if errors.Is(err, fs.ErrNotExist) {
		manifest, err = with(manifest, dm.Devices(name)...), nil // src.json asks for it, but it has not been made yet
	}
	if err != nil {
		return err
	}
	if text(manifest, "type") != dm.Verity {
		return nil // another kind of mapping has no hash tree
	}
	c, err := w.openDirectory(w.directory(container))
	if err != nil {
		return err
	}
	defer c.abort()
	if err := w.protect(ctx, c, container, name, seeded(manifest), r); err != nil {
		return err
	}
	return c.commit()
}

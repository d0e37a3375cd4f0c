package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/formats/verity"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

const (
	dmDirectory = "_dm"
	verityType  = "dm-verity"
	saltSize    = 32
)

// manifestKey returns the key of a volume's device mapper manifest.
func manifestKey(container, volume string) string {
	return container + "/" + dmDirectory + "/" + volume + ".json"
}

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
	manifest, err := w.readManifest(manifestKey(container, volume))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	manifest = with(with(manifest, devices(volume)...), seed()...)
	if err := w.protect(ctx, c, container, volume, manifest, r); err != nil {
		return err
	}
	if err := w.refer(c, container, volume, r); err != nil {
		return err
	}
	return c.commit()
}

// devices are the members of a manifest that name a volume and its hash tree.
func devices(volume string) []canon.Member {
	return []canon.Member{
		{Name: "data_device", Value: canon.Str(volume)},
		{Name: "hash_device", Value: canon.Str(volume + ".hash")},
		{Name: "type", Value: canon.Str(verityType)},
	}
}

// seed returns a new salt and UUID (version 4, RFC 9562).
func seed() []canon.Member {
	salt, uuid := make([]byte, saltSize), make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	_, _ = rand.Read(uuid)
	uuid[6], uuid[8] = uuid[6]&0x0f|0x40, uuid[8]&0x3f|0x80
	return []canon.Member{
		{Name: "salt", Value: canon.Str(fmt.Sprintf("%x", salt))},
		{Name: "uuid", Value: canon.Str(fmt.Sprintf("%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:]))},
	}
}

// seeded returns the manifest with a new salt or UUID if it has none.
func seeded(manifest canon.Value) canon.Value {
	for _, m := range seed() {
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
	params, err := verity.ParseParams(text(manifest, "salt"), text(manifest, "uuid"))
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "manifest of %s", name)
	}
	tree, err := hashVolume(ctx, filepath.Join(c.final, data), params)
	if err != nil {
		return err
	}
	root, err := tree.Root()
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "volume %s", data)
	}
	out, err := c.create(hashes)
	if err != nil {
		return err
	}
	if err := errors.Join(out.Chmod(0o600), writeTree(out, tree)); err != nil {
		return err
	}
	key := manifestKey(container, name)
	manifest = with(manifest, canon.Member{Name: "root_hash", Value: canon.Str(root)})
	if err := c.write(dmDirectory+"/"+name+".json", manifest.Encode()); err != nil {
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

func hashVolume(ctx context.Context, path string, p verity.Params) (*verity.Tree, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "opening the volume")
	}
	defer f.Close()
	tree, buf := verity.NewTree(p), make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		_, _ = tree.Write(buf[:n]) // never fails
		if errors.Is(err, io.EOF) {
			return tree, nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, fmt.Errorf("reading the volume: %w", err)
		}
	}
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
		if !strings.HasPrefix(key, prefix) || !strings.Contains(key, "/"+dmDirectory+"/") || !strings.HasSuffix(key, ".json") {
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
	container, file, _ := strings.Cut(key, "/"+dmDirectory+"/")
	name := strings.TrimSuffix(file, ".json")
	if !element(name) || !element(container) {
		return fault.New(fault.BadInput, "CONTAINER/%s/VOLUME.json is expected", dmDirectory)
	}
	manifest, err := w.readManifest(key)
	if errors.Is(err, fs.ErrNotExist) {
		manifest, err = with(manifest, devices(name)...), nil // src.json asks for it, but it has not been made yet
	}
	if err != nil {
		return err
	}
	if text(manifest, "type") != verityType {
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

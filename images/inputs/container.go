package inputs

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/verity"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/dm"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/targets"
)

// The files of a root file system in a container's part of a revision.
const (
	rootFile = "root.squashfs"
	hashFile = rootFile + ".hash" // its dm-verity hash tree
)

// containerStep is the step that makes a container's part of the state from a root file
// system.
type containerStep struct {
	Input     string
	Container Container
	Arch      targets.Arch
	Epoch     build.Stamp
	// Files are what the part has besides the root file system.
	Files Besides
	path  string
}

var (
	_ build.Step  = (*containerStep)(nil)
	_ build.Large = (*containerStep)(nil)
)

// Name is "input/container/" and the container's.
func (s *containerStep) Name() string { return "input/container/" + s.Container.Name }

// Memory is that for a squashfs.
func (*containerStep) Memory() int64 { return squashfs.Memory }

// Deps is empty.
func (s *containerStep) Deps() []build.Step { return nil }

// Keys are the keys of the state.
func (s *containerStep) Keys() []string {
	var out []string
	for _, file := range []string{template.ConfigName, rootFile, "run.json", "src.json"} {
		out = append(out, s.Container.Name+"/"+file)
	}
	if s.Container.Verity {
		out = append(out, s.Container.Name+"/"+hashFile, dm.Manifest(s.Container.Name, rootFile))
	}
	return append(out, s.Files.keys(s.Container.Name)...)
}

// Run makes the root file system and renders the container.
func (s *containerStep) Run(ctx context.Context, w *build.Work) error {
	return fault.Wrap(fault.BadInput, s.make(ctx, w), "making container %s", s.Container.Name)
}

// origin is where the root file system comes from.
func (s *containerStep) origin() origin {
	return origin{s.Input, s.path, wants(s.Input, s.Container.Root.Form)}
}

func (s *containerStep) make(ctx context.Context, w *build.Work) error {
	p, err := fragment.Create(w.Out)
	if err != nil {
		return err
	}
	root := filepath.Join(w.Tmp, rootFile)
	c, err := s.root(ctx, w, root)
	if err != nil {
		return err
	}
	sum, err := fragment.Digest(ctx, root)
	if err != nil {
		return err
	}
	files, err := s.render(sum, c)
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := p.AddBytes(s.Container.Name+"/"+name, text); err != nil {
			return err
		}
	}
	if err := p.AddObject(ctx, s.Container.Name+"/"+rootFile, root); err != nil {
		return err
	}
	if s.Container.Verity {
		if err := s.protect(ctx, p, root, sum); err != nil {
			return err
		}
	}
	if err := s.beside(ctx, p); err != nil {
		return err
	}
	return p.Close()
}

// protect adds the hash tree of the root file system, and its manifest. Salt and UUID follow
// from the content.
func (s *containerStep) protect(ctx context.Context, p *fragment.Writer, root, sum string) error {
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	if info.Size()%verity.BlockSize != 0 { // a device would not see its end
		return fault.New(fault.BadInput, "a hash tree covers blocks of %d bytes, and it has %d bytes: fill %s up", verity.BlockSize, info.Size(), rootFile)
	}
	tree, manifest, err := dm.Hash(ctx, canon.Obj(append(dm.Devices(rootFile), dm.SeedOf(sum)...)...), root)
	if err != nil {
		return err
	}
	hashes, err := os.Create(root + ".hash")
	if err != nil {
		return err
	}
	defer hashes.Close()
	if _, err := tree.WriteTo(hashes); err != nil {
		return err
	}
	if err := errors.Join(hashes.Close(), os.Chtimes(hashes.Name(), time.Time{}, s.Epoch.Time())); err != nil {
		return err
	}
	return errors.Join(
		p.AddObject(ctx, s.Container.Name+"/"+hashFile, hashes.Name()),
		p.AddValue(dm.Manifest(s.Container.Name, rootFile), manifest.Encode()),
	)
}

// content is what a root file system says of its program.
type content struct {
	config        canon.Value // of the OCI image
	passwd, group string
}

// root writes the root file system.
func (s *containerStep) root(ctx context.Context, w *build.Work, to string) (*content, error) {
	r := s.Container.Root
	if r.Form == "squashfs" {
		if err := take(ctx, to, s.path, r.SHA256); err != nil {
			return nil, s.origin().wrong(err)
		}
		return &content{config: canon.Obj()}, s.origin().wrong(checkSquashfs(to))
	}
	t, err := rootfs.New(w.Tmp, 0)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	c, err := s.fill(ctx, t)
	if err != nil {
		return nil, s.origin().wrong(err)
	}
	for _, name := range s.Container.Exclude {
		t.Remove(name)
	}
	if passed := t.Passed(); passed != "" {
		w.Warn("container " + s.Container.Name + ": squashfs cannot hold all attributes of its files; left out: " + passed)
	}
	if t.Empty() {
		return nil, s.origin().wrong(fault.New(fault.BadInput, "it has no files"))
	}
	for name, dst := range map[string]*string{"etc/passwd": &c.passwd, "etc/group": &c.group} {
		text, err := t.ReadFile(name, maxAccounts)
		if err != nil {
			return nil, s.origin().wrong(err)
		}
		*dst = string(text)
	}
	return c, s.write(ctx, t, to)
}

// checkSquashfs checks that a file begins as a squashfs does that the kernel mounts (Linux:
// fs/squashfs/squashfs_fs.h), and that nothing of it is missing.
func checkSquashfs(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var head [48]byte
	le := binary.LittleEndian
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:4]) != "hsqs" || le.Uint16(head[28:]) != 4 {
		return fault.New(fault.BadInput, "it is not a squashfs of version 4")
	}
	if used := le.Uint64(head[40:]); used > uint64(info.Size()) {
		return fault.New(fault.BadInput, "it is cut short: the squashfs has %d bytes, the file %d", used, info.Size())
	}
	return nil
}

// maxAccounts bounds /etc/passwd and /etc/group, in bytes.
const maxAccounts = 4 << 20

// fill reads the tree in its form.
func (s *containerStep) fill(ctx context.Context, t *rootfs.Tree) (*content, error) {
	c := &content{config: canon.Obj()}
	r := s.Container.Root
	switch r.Form {
	case "directory":
		return c, errors.Join(t.AddDirectory(ctx, s.path), unchangedTree(s.path, r.SHA256))
	case "tar":
		return c, stream(ctx, s.path, r.SHA256, func(in io.Reader) error { return t.AddTar(ctx, in) })
	case "cpio":
		return c, stream(ctx, s.path, r.SHA256, func(in io.Reader) error { return t.AddCpio(ctx, in) })
	}
	var err error
	if c.config, err = fillOCI(ctx, t, s.path, s.Arch); err != nil {
		return nil, err
	}
	return c, errors.Join(t.EnsureDirectories(essential...), unchangedTree(s.path, r.SHA256))
}

// essential are the directories that a container with a read-only root needs and images often
// lack.
var essential = []string{"proc", "sys", "dev", "tmp", "var/tmp", "run", "var/run"}

func unchangedTree(dir, digest string) error {
	t, err := build.DigestTree(dir)
	if err == nil && t.Digest != digest {
		err = changed(dir)
	}
	return err
}

// write writes the tree as squashfs. The files of a directory were made by whoever built it, so
// their owner says nothing: they become root's.
func (s *containerStep) write(ctx context.Context, t *rootfs.Tree, to string) error {
	o := squashfs.Options{Compression: squashfs.Zstd, BlockSize: int(s.Container.Block)}
	if s.Container.Compression != "" {
		var err error
		if o.Compression, err = squashfs.ParseCompression(s.Container.Compression); err != nil {
			return err
		}
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	normal := tree.Normal{AllRoot: s.Container.Root.Form == "directory", Time: s.Epoch.Time()}
	if err := t.WriteSquashfs(ctx, f, o, normal); err != nil {
		return s.origin().wrong(err)
	}
	return errors.Join(f.Close(), os.Chtimes(to, time.Time{}, s.Epoch.Time()))
}

// source is src.json (manual: pvr, service-manifest-src@1), members in the order in which pvr
// writes them.
type source struct {
	Spec         string            `json:"#spec"`
	Template     string            `json:"template"`
	Args         map[string]any    `json:"args,omitempty"`
	Mapped       map[string]bool   `json:"dm_enabled,omitempty"`
	Config       json.RawMessage   `json:"docker_config"`
	RootfsDigest string            `json:"rootfs_digest"`
	Persistence  map[string]string `json:"persistence,omitempty"`
}

// render returns src.json and what follows from it.
func (s *containerStep) render(sum string, c *content) (map[string][]byte, error) {
	if _, err := hex.DecodeString(sum); err != nil {
		return nil, err
	}
	config, err := s.config(c)
	if err != nil {
		return nil, err
	}
	own := source{
		Spec: "service-manifest-src@1", Template: template.Builtin, Args: maps.Clone(s.Container.Args), Config: config,
		RootfsDigest: "sha256:" + sum, Persistence: s.Container.Persistence,
	}
	if s.Container.Verity {
		own.Mapped = map[string]bool{rootFile: true}
	}
	src, err := json.Marshal(own)
	if err != nil {
		return nil, err
	}
	user, err := s.user(src, c)
	if err != nil {
		return nil, err
	}
	out, err := template.Render(template.Input{Name: s.Container.Name, Source: src, User: user})
	if err != nil {
		return nil, err
	}
	run, err := s.Files.networked(out.Run)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"src.json": src, "run.json": run.Append(nil)}
	if out.Config != nil {
		files[template.ConfigName] = out.Config
	}
	return files, nil
}

// config returns docker_config: that of the image, with what the list says in its place.
func (s *containerStep) config(c *content) (json.RawMessage, error) {
	own := struct {
		Entrypoint []string `json:"Entrypoint,omitempty"`
		Cmd        []string `json:"Cmd,omitempty"`
		Env        []string `json:"Env,omitempty"`
		WorkingDir string   `json:"WorkingDir,omitempty"`
		User       string   `json:"User,omitempty"`
	}{s.Container.Entrypoint, s.Container.Command, s.Container.Env, s.Container.WorkingDir, s.Container.User}
	text, err := json.Marshal(own)
	if err != nil {
		return nil, err
	}
	over, err := canon.Parse(text)
	if err != nil {
		return nil, err
	}
	members := append([]canon.Member(nil), c.config.Members()...)
	if s.Files.Config != "" {
		given, err := canon.Parse([]byte(s.Files.Config))
		if err != nil {
			return nil, err
		}
		members = append(members, given.Members()...)
	}
	return canon.Obj(append(members, over.Members()...)...).Append(nil), nil
}

// user finds the numbers of the program's user.
func (s *containerStep) user(src []byte, c *content) (template.Account, error) {
	v, err := canon.Parse(src)
	if err != nil {
		return template.Account{}, err
	}
	name := template.User(v)
	account, known := template.ParseUser(name)
	if known {
		return account, nil
	}
	if s.Container.Root.Form == "squashfs" {
		return account, fault.New(fault.Unsupported, "its user %s: want numbers as in 1000:1000; the accounts in a finished squashfs are not read", name)
	}
	account, err = template.LookUp(name, c.passwd, c.group)
	return account, fault.Wrap(fault.BadInput, err, "looking up its user %s", name)
}

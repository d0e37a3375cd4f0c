// Package dm makes the device mapper manifests of a container's volumes, _dm/VOLUME.json, and
// the dm-verity hash trees beside the volumes (manual: pvr dm-convert).
package dm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pantavisor/pantavisor/formats/verity"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

const (
	// Directory is that of the manifests in a container.
	Directory = "_dm"
	// Verity is the type of a mapping with a hash tree.
	Verity = "dm-verity"

	saltSize = 32
)

// Manifest returns the key of a volume's manifest.
func Manifest(container, volume string) string {
	return container + "/" + Directory + "/" + volume + ".json"
}

// Devices are the members of a manifest that name a volume and its hash tree.
func Devices(volume string) []canon.Member {
	return []canon.Member{
		{Name: "data_device", Value: canon.Str(volume)},
		{Name: "hash_device", Value: canon.Str(volume + ".hash")},
		{Name: "type", Value: canon.Str(Verity)},
	}
}

// Seed returns a new salt and a UUID of version 4 (RFC 9562).
func Seed() []canon.Member {
	var salt [saltSize]byte
	var uuid [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	_, _ = rand.Read(uuid[:])
	return seed(salt, uuid, 4)
}

// SeedOf returns the salt and the UUID, of version 8, that follow from a text: the same text
// makes the same tree.
func SeedOf(text string) []canon.Member {
	uuid := sha256.Sum256([]byte("dm-verity uuid\x00" + text))
	return seed(sha256.Sum256([]byte("dm-verity salt\x00"+text)), [16]byte(uuid[:16]), 8)
}

func seed(salt [saltSize]byte, uuid [16]byte, version byte) []canon.Member {
	uuid[6], uuid[8] = uuid[6]&0x0f|version<<4, uuid[8]&0x3f|0x80
	return []canon.Member{
		{Name: "salt", Value: canon.Str(fmt.Sprintf("%x", salt))},
		{Name: "uuid", Value: canon.Str(fmt.Sprintf("%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:]))},
	}
}

// Hash reads a volume. It returns its tree, with the salt and the UUID of a manifest, and the
// manifest with the tree's root hash.
func Hash(ctx context.Context, manifest canon.Value, file string) (*verity.Tree, canon.Value, error) {
	params, err := verity.ParseParams(text(manifest, "salt"), text(manifest, "uuid"))
	if err != nil {
		return nil, manifest, fault.Wrap(fault.BadInput, err, "reading the manifest")
	}
	tree, err := read(ctx, file, params)
	if err != nil {
		return nil, manifest, err
	}
	root, err := tree.Root()
	if err != nil {
		return nil, manifest, fault.Wrap(fault.BadInput, err, "volume %s", text(manifest, "data_device"))
	}
	members := append([]canon.Member(nil), manifest.Members()...)
	return tree, canon.Obj(append(members, canon.Member{Name: "root_hash", Value: canon.Str(root)})...), nil
}

func text(v canon.Value, member string) string {
	m, _ := v.Get(member)
	t, _ := m.Text()
	return t
}

func read(ctx context.Context, file string, p verity.Params) (*verity.Tree, error) {
	f, err := os.Open(file)
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

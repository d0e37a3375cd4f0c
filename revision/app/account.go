package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// userMember is the member of src.json with the numbers of the user that the image names,
// so that the application can be rendered without the image.
const userMember = "docker_user"

// recordedUser is the value of [userMember].
type recordedUser struct {
	Name   string   `json:"name"`
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// accountFiles are the texts of an image's /etc/passwd and /etc/group.
type accountFiles struct{ passwd, group string }

// maxAccounts bounds the size of each of the files in bytes.
const maxAccounts = 4 << 20

// see keeps the account files of a root file system that was composed.
func (b *build) see(t *rootfs.Tree) (*rootfs.Tree, error) {
	b.accounts = &accountFiles{}
	for name, dst := range map[string]*string{"etc/passwd": &b.accounts.passwd, "etc/group": &b.accounts.group} {
		text, err := t.ReadFile(name, maxAccounts)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("reading the image's /%s: %w", name, err), t.Close())
		}
		*dst = string(text)
	}
	return t, nil
}

// findUser finds the user of the application: by numbers, in the root file system if it
// was composed, else as recorded. It composes the root file system if all else fails.
func (b *build) findUser(ctx context.Context) error {
	user := template.User(b.src.JSON())
	a, known := template.ParseUser(user)
	if known || !b.runs {
		b.user = a
		b.src.SetValue(userMember, canon.Value{})
		return nil
	}
	var old recordedUser
	_ = json.Unmarshal(b.src.Value(userMember).Encode(), &old)
	if b.accounts == nil && old.Name == user {
		b.user = template.Account{UID: old.UID, GID: old.GID, Groups: old.Groups}
		return nil
	}
	if err := b.composeAccounts(ctx); err != nil {
		return fmt.Errorf("looking up the user %q: %w", user, err)
	}
	var err error
	if b.user, err = template.LookUp(user, b.accounts.passwd, b.accounts.group); err != nil {
		return fault.Wrap(fault.BadInput, err, "docker_config.User")
	}
	text, err := json.Marshal(recordedUser{user, b.user.UID, b.user.GID, b.user.Groups})
	if err != nil {
		return err
	}
	v, err := canon.Parse(text)
	b.src.SetValue(userMember, v)
	return err
}

// composeAccounts composes the root file system for its account files.
func (b *build) composeAccounts(ctx context.Context) error {
	if b.accounts != nil {
		return nil
	}
	var t *rootfs.Tree
	var err error
	switch b.src.Kind() {
	case Docker:
		digest := b.src.Text("docker_ovl_digest")
		if digest == "" {
			digest = b.src.Text("docker_digest")
		}
		t, err = b.rootTree(ctx, digest)
	case Rootfs:
		if t, err = b.w.composeRootfs(ctx, b.name, b.src.Text("rootfs_url")); err == nil {
			t, err = b.see(t)
		}
	default:
		return fault.New(fault.Unsupported, "src.json of the part has no %s; update the application where it comes from, or set config.User to a number", userMember)
	}
	if err != nil {
		return err
	}
	return t.Close()
}

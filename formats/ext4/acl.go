package ext4

import "errors"

// The two ACLs as extended attributes (acl(5), Linux: include/uapi/linux/posix_acl_xattr.h).
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// Versions of the two forms of an ACL, and the tags of entries that name a user or group.
const (
	aclXattr = 2
	aclDisk  = 1
	aclUser  = 0x02
	aclGroup = 0x08
)

// encodeACL converts the form of getxattr(2), where every entry has an ID, to that of the
// file system, where only named users and groups have one.
func encodeACL(value []byte) ([]byte, error) {
	if len(value) < 4 || len(value)%8 != 4 || le.Uint32(value) != aclXattr {
		return nil, errors.New("not an ACL of version 2")
	}
	out := le.AppendUint32(nil, aclDisk)
	for e := value[4:]; len(e) > 0; e = e[8:] {
		out = append(out, e[:4]...)
		if tag := le.Uint16(e); tag == aclUser || tag == aclGroup {
			out = append(out, e[4:8]...)
		}
	}
	return out, nil
}

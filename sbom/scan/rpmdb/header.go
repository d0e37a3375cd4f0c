package rpmdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Tags of a header (rpm: include/rpm/rpmtag.h).
const (
	tagName       = 1000
	tagVersion    = 1001
	tagRelease    = 1002
	tagEpoch      = 1003
	tagVendor     = 1011
	tagLicence    = 1014
	tagArch       = 1022
	tagOldFiles   = 1027
	tagSource     = 1044
	tagDirIndexes = 1116
	tagBaseNames  = 1117
	tagDirNames   = 1118
)

// Types of the data of tags.
const (
	typeInt32   = 4
	typeString  = 6
	typeStrings = 8
	typeI18N    = 9
)

// maxFiles bounds the files of one package.
const maxFiles = 1 << 20

// header is the header of a package: entries of 16 bytes, and their data.
type header struct {
	entries map[uint32]tag
	data    []byte
}

type tag struct{ kind, offset, count uint32 }

// parse reads a header: the number of entries, the length of the data, both.
func parse(b []byte) (*Package, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("a header of %d bytes: %w", len(b), errFormat)
	}
	be := binary.BigEndian
	count, length := int64(be.Uint32(b)), int64(be.Uint32(b[4:]))
	if b = b[8:]; count*16 > int64(len(b)) || length > int64(len(b))-count*16 {
		return nil, fmt.Errorf("a header of %d entries and %d bytes: %w", count, length, errFormat)
	}
	h := header{map[uint32]tag{}, b[count*16:][:length]}
	for ; count > 0; count, b = count-1, b[16:] {
		h.entries[be.Uint32(b)] = tag{be.Uint32(b[4:]), be.Uint32(b[8:]), be.Uint32(b[12:])}
	}
	p := &Package{
		Name: h.text(tagName), Version: h.text(tagVersion), Release: h.text(tagRelease), Arch: h.text(tagArch),
		Licence: h.text(tagLicence), Vendor: h.text(tagVendor), SourceName: h.text(tagSource), Epoch: -1, Files: h.files(),
	}
	if e := h.numbers(tagEpoch); len(e) > 0 {
		p.Epoch = int64(e[0])
	}
	return p, nil
}

// from returns the data of a tag, which ends where the next one's begins; none if it has another type.
func (h *header) from(t uint32, kinds ...uint32) (data []byte, count int) {
	e, ok := h.entries[t]
	if !ok || int64(e.offset) > int64(len(h.data)) || e.count > maxFiles {
		return nil, 0
	}
	for _, k := range kinds {
		if e.kind == k {
			return h.data[e.offset:], int(e.count)
		}
	}
	return nil, 0
}

// text returns a string, in the first of its languages.
func (h *header) text(t uint32) string {
	if data, _ := h.from(t, typeString, typeStrings, typeI18N); len(data) > 0 {
		text, _, _ := bytes.Cut(data, []byte{0})
		return string(text)
	}
	return ""
}

// texts returns a list of strings.
func (h *header) texts(t uint32) []string {
	data, count := h.from(t, typeStrings)
	var out []string
	for ; count > 0 && len(data) > 0; count-- {
		var text []byte
		text, data, _ = bytes.Cut(data, []byte{0})
		out = append(out, string(text))
	}
	return out
}

// numbers returns a list of numbers.
func (h *header) numbers(t uint32) []uint32 {
	data, count := h.from(t, typeInt32)
	var out []uint32
	for ; count > 0 && len(data) >= 4; count, data = count-1, data[4:] {
		out = append(out, binary.BigEndian.Uint32(data))
	}
	return out
}

// files returns the paths, which have their directories in a list of its own.
func (h *header) files() []string {
	names, dirs, at := h.texts(tagBaseNames), h.texts(tagDirNames), h.numbers(tagDirIndexes)
	if len(names) == 0 {
		return h.texts(tagOldFiles)
	}
	var out []string
	for i, name := range names {
		if i < len(at) && int64(at[i]) < int64(len(dirs)) {
			out = append(out, dirs[at[i]]+name)
		}
	}
	return out
}

// Full returns the version in full: [EPOCH:]VERSION-RELEASE without the epoch.
func (p *Package) Full() string { return strings.TrimSuffix(p.Version+"-"+p.Release, "-") }

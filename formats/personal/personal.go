// Package personal reads and writes the file config/personal of a storage: what is particular to
// one device, put into a finished image or onto a card. Images have the file from the beginning,
// with room in it, so that a change overwrites blocks of one file: nothing else of the file
// system changes, and it need not be mounted.
//
//	file:  two slots of 32 KiB; the newer one counts
//	slot:  a sector of 512 bytes with the line "pantavisor-personal 1 GENERATION LENGTH SHA256",
//	       then LENGTH bytes of JSON; an empty slot, and all that is not used, is line feeds
//
// The line of a slot is written when all behind it is on the medium, by a write of one sector:
// a power cut leaves the old settings or the new ones. Then the other slot is emptied, so that
// secrets of before do not stay.
package personal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Name is that of the file, below the storage.
const Name = "config/personal"

// Sizes in bytes.
const (
	Size     = slots * slotSize
	slots    = 2
	slotSize = 32 << 10
	sector   = 512
	most     = slotSize - sector // of JSON
)

const magic = "pantavisor-personal 1 "

// filler is what fills the file: blocks of zeros would be holes, and have no place.
const filler = '\n'

// ErrFormat is wrapped by errors about a file that is not as described above; ErrTooLarge by
// those about settings that have no room in it.
var (
	ErrFormat   = errors.New("the file " + Name + " is damaged")
	ErrTooLarge = fmt.Errorf("personal settings have up to %d bytes as JSON", most)
)

// Settings are those of one device.
type Settings struct {
	// Hub are settings as in pantahub.config, which they replace.
	Hub map[string]string `json:"hub,omitempty"`
	// Hostname is the name of the device in its network.
	Hostname string `json:"hostname,omitempty"`
	// UserMeta are keys of user metadata, which the device takes once.
	UserMeta map[string]string `json:"user_meta,omitempty"`
}

// Empty reports whether nothing is set.
func (s Settings) Empty() bool { return len(s.Hub) == 0 && s.Hostname == "" && len(s.UserMeta) == 0 }

// CheckHostname returns why a text is not a name for a device: letters, digits and hyphens, up to
// 63 in each of its parts between dots and 64 in all, as the kernel has room for (RFC 1123, section
// 2.1).
func CheckHostname(name string) error {
	if len(name) > maxHostname {
		return fmt.Errorf("%q is not a valid host name: it has more than %d characters", name[:maxHostname], maxHostname)
	}
	for label := range strings.SplitSeq(name, ".") {
		ok := label != "" && len(label) <= maxLabel && label[0] != '-' && label[len(label)-1] != '-'
		for _, c := range label {
			ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-')
		}
		if !ok {
			return fmt.Errorf("%q is not a valid host name: letters, digits and hyphens, as in sensor-7", name)
		}
	}
	return nil
}

// Of host names, in characters.
const (
	maxHostname = 64
	maxLabel    = 63
)

// Blank is the file without settings.
func Blank() []byte { return bytes.Repeat([]byte{filler}, Size) }

// slot is what one of the two has.
type slot struct {
	generation uint64 // 0 when it is empty
	text       []byte
	err        error // it is damaged
}

// Read reads the settings. A file without any is no error; one with a damaged slot is, unless
// the other is whole.
func Read(r io.ReaderAt) (Settings, error) {
	all, err := read(r)
	if err != nil {
		return Settings{}, err
	}
	var s Settings
	i := newest(all)
	if i < 0 {
		return s, errors.Join(all[0].err, all[1].err)
	}
	if err := json.Unmarshal(all[i].text, &s); err != nil {
		return Settings{}, fmt.Errorf("reading slot %d: %w: %w", i, ErrFormat, err)
	}
	return s, nil
}

func read(r io.ReaderAt) (all [slots]slot, err error) {
	for i := range all {
		b := make([]byte, slotSize)
		if _, err := r.ReadAt(b, int64(i*slotSize)); err != nil {
			return all, fmt.Errorf("reading slot %d of %s: %w", i, Name, err)
		}
		if all[i], err = parse(b); err != nil {
			all[i].err = fmt.Errorf("reading slot %d: %w", i, err)
		}
	}
	return all, nil
}

// parse reads a slot.
func parse(b []byte) (slot, error) {
	line, _, _ := bytes.Cut(b[:sector], []byte{'\n'})
	if len(line) == 0 {
		return slot{}, nil
	}
	text, ok := strings.CutPrefix(string(line), magic)
	fields := strings.Fields(text)
	if !ok || len(fields) != 3 {
		return slot{}, ErrFormat
	}
	generation, err1 := strconv.ParseUint(fields[0], 10, 32)
	length, err2 := strconv.ParseUint(fields[1], 10, 32)
	if err1 != nil || err2 != nil || generation == 0 || length > most {
		return slot{}, ErrFormat
	}
	content := b[sector : sector+length]
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != fields[2] {
		return slot{}, fmt.Errorf("%w: its checksum is another", ErrFormat)
	}
	return slot{generation: generation, text: content}, nil
}

// newest returns the slot that counts, -1 for none.
func newest(all [slots]slot) int {
	best := -1
	for i, s := range all {
		if s.generation > 0 && (best < 0 || s.generation > all[best].generation) {
			best = i
		}
	}
	return best
}

// File is the file, or the blocks that are its content.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when what was written is on the medium.
	Sync() error
}

// Write gives the file settings; those that are empty make it blank again.
func Write(f File, s Settings) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding personal settings: %w", err)
	}
	if len(text) > most {
		return fmt.Errorf("writing %s: %d bytes: %w", Name, len(text), ErrTooLarge)
	}
	all, err := read(f)
	if err != nil {
		return err
	}
	old := newest(all)
	into := 1 - max(old, 0) // of two empty ones, either
	if !s.Empty() {
		if err := fill(f, into, generationAfter(all, old), text); err != nil {
			return fmt.Errorf("writing %s: %w", Name, err)
		}
	} else if err := empty(f, into); err != nil { // before the newer one: it must not come back
		return fmt.Errorf("emptying %s: %w", Name, err)
	}
	if err := empty(f, 1-into); err != nil {
		return fmt.Errorf("emptying %s: %w", Name, err)
	}
	return nil
}

// generationAfter returns the generation of new settings. Behind the last one comes the first: the
// old settings count until they are emptied.
func generationAfter(all [slots]slot, old int) uint64 {
	if old < 0 || all[old].generation == math.MaxUint32 {
		return 1
	}
	return all[old].generation + 1
}

// fill gives a slot content: its first sector last.
func fill(f File, i int, generation uint64, text []byte) error {
	b := Blank()[:slotSize]
	copy(b[sector:], text)
	if err := put(f, i, 0, Blank()[:sector]); err != nil {
		return err
	}
	if err := put(f, i, sector, b[sector:]); err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	copy(b, fmt.Sprintf("%s%d %d %x", magic, generation, len(text), sum))
	if err := put(f, i, 0, b[:sector]); err != nil {
		return err
	}
	back := make([]byte, slotSize)
	if _, err := f.ReadAt(back, int64(i*slotSize)); err != nil {
		return err
	}
	if !bytes.Equal(back, b) {
		return errors.New("the medium does not keep what was written")
	}
	return nil
}

// empty empties a slot: its first sector first.
func empty(f File, i int) error {
	if err := put(f, i, 0, Blank()[:sector]); err != nil {
		return err
	}
	return put(f, i, sector, Blank()[:slotSize-sector])
}

func put(f File, i, at int, b []byte) error {
	if _, err := f.WriteAt(b, int64(i*slotSize+at)); err != nil {
		return err
	}
	return f.Sync()
}

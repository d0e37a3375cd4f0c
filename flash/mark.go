package flash

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// markText is the first line of the mark.
const markText = "Pantavisor: this medium is incomplete: writing an image to it has not ended."

// Mark is in the first block of a medium from the moment when its content is given up until
// all of an image is on it. It is a text, so that people find it too:
//
//	Pantavisor: this medium is incomplete: writing an image to it has not ended.
//	image: disk.img
//	bytes: 4294967296
//	since: 2026-01-02T15:04:05Z
type Mark struct {
	// Image is the name of the image's file.
	Image string
	// Size is that of the image in bytes.
	Size int64
	// Since is when writing began, by the clock of the machine.
	Since time.Time
}

// String describes the mark for people.
func (m Mark) String() string {
	return fmt.Sprintf("incomplete: writing %q to it, begun %s, has not ended", m.Image, m.Since.Format(time.RFC3339))
}

// maxName bounds the name of an image in the mark, in bytes.
const maxName = 255

// encodeMark returns the first block of a medium on its way to an image.
func encodeMark(i *Image) []byte {
	name := strings.ToValidUTF8(filepath.Base(i.Path), "?")
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name[:min(len(name), maxName)])
	b := make([]byte, firstSize)
	copy(b, fmt.Sprintf("%s\nimage: %s\nbytes: %d\nsince: %s\n", markText, name, i.Size, time.Now().UTC().Format(time.RFC3339)))
	return b
}

// ReadMark reads the mark of a medium that is incomplete. It reports whether there is one.
func ReadMark(r io.ReaderAt) (Mark, bool) {
	b := aligned(firstSize)
	if n, _ := r.ReadAt(b, 0); n < len(markText) {
		return Mark{}, false
	}
	text, _, _ := bytes.Cut(b, []byte{0})
	if !bytes.HasPrefix(text, []byte(markText+"\n")) {
		return Mark{}, false
	}
	var m Mark
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "image":
			m.Image = value
		case "bytes":
			_, _ = fmt.Sscan(value, &m.Size) // 0 of a damaged mark
		case "since":
			m.Since, _ = time.Parse(time.RFC3339, value)
		}
	}
	return m, true
}

package region

import (
	"errors"
	"io"
	"sort"
)

// Run is a part of a file: Length bytes at Offset of the file, which are at From of the
// image.
type Run struct{ Offset, Length, From int64 }

// Mapped is the content of a file that is in runs of an image. Between runs, where the file
// has holes, it reads as zeros.
type Mapped struct {
	image io.ReaderAt
	size  int64
	runs  []Run
}

// NewMapped returns the content of a file of size bytes. The runs are in order and do not
// overlap.
func NewMapped(image io.ReaderAt, size int64, runs []Run) *Mapped {
	return &Mapped{image, size, runs}
}

var _ io.ReaderAt = (*Mapped)(nil)

// Size returns the length of the file in bytes.
func (m *Mapped) Size() int64 { return m.size }

// Runs returns the runs.
func (m *Mapped) Runs() []Run { return m.runs }

// ReadAt implements io.ReaderAt.
func (m *Mapped) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("reading before the start of a file")
	}
	if off >= m.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > m.size-off {
		p, end = p[:m.size-off], io.EOF
	}
	i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].Offset+m.runs[i].Length > off })
	for done := 0; done < len(p); {
		at := off + int64(done)
		if i == len(m.runs) || m.runs[i].Offset >= off+int64(len(p)) {
			clear(p[done:])
			break
		}
		r := m.runs[i]
		if r.Offset+r.Length <= at { // in one before
			i++
			continue
		}
		if at < r.Offset {
			n := int(r.Offset - at)
			clear(p[done : done+n])
			done += n
			continue
		}
		n := int(min(r.Offset+r.Length-at, int64(len(p)-done)))
		if got, err := m.image.ReadAt(p[done:done+n], r.From+at-r.Offset); got < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the image ends within the file
			}
			return done + got, err
		}
		done += n
		i++
	}
	return len(p), end
}

// Reader reads the content from its start.
func (m *Mapped) Reader() io.Reader { return io.NewSectionReader(m, 0, m.size) }

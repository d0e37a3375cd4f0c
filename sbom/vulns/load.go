package vulns

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// The forms of data.
const (
	formTracker   = "Debian security tracker"
	formOSV       = "OSV"
	formCVE       = "CVE"
	formOpenVEX   = "OpenVEX"
	formCycloneDX = "CycloneDX"
)

// Source is a file with data, or what the files of a directory have in one form.
type Source struct {
	Path    string `json:"path"`
	Form    string `json:"form"`
	Records int    `json:"records"`
	// Modified is the time of the newest record that has one.
	Modified time.Time `json:"modified,omitzero"`
	// FileTime is that of the file.
	FileTime time.Time `json:"file_time,omitzero"`
	// SHA256 is that of a file.
	SHA256 string `json:"sha256,omitempty"`
}

// Age returns how old the data are at a time: since the newest record, or since the file was written.
func (s *Source) Age(now time.Time) time.Duration {
	if s.Modified.IsZero() {
		return now.Sub(s.FileTime)
	}
	return now.Sub(s.Modified)
}

// Bounds of data, in bytes, and of the files of a zip.
const (
	maxRecord = 32 << 20
	maxStream = 8 << 30
	maxNames  = 4 << 20
)

// Load takes data: a file or a zip of a known form, or a directory with such files.
func (s *Scan) Load(ctx context.Context, name string) error {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Missing, "there are no vulnerability data at %s: docs/vulns.md says where to get them", name)
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading vulnerability data")
	}
	if !info.IsDir() {
		l := &load{Scan: s, ctx: ctx, single: true}
		return l.file(name, name)
	}
	l, before := &load{Scan: s, ctx: ctx}, s.records()
	err = filepath.WalkDir(name, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fault.Wrap(fault.IO, err, "reading vulnerability data")
		case ctx.Err() != nil:
			return ctx.Err()
		case strings.HasPrefix(d.Name(), ".") && file != name && d.IsDir():
			return fs.SkipDir
		case d.IsDir(), !isData(d.Name()):
			return nil
		}
		return l.file(file, name)
	})
	if err == nil && s.records() == before {
		err = fault.New(fault.BadInput, "%s has no vulnerability data of a known form: .json and .zip files, docs/vulns.md lists them", name)
	}
	return err
}

func (s *Scan) records() int {
	n := 0
	for _, d := range s.data {
		n += d.Records
	}
	return n
}

// isData reports whether a file of a directory may have data, by its name.
func isData(name string) bool {
	for _, suffix := range []string{".gz", ".xz", ".zst", ".bz2"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return path.Ext(name) == ".json" || path.Ext(name) == ".zip"
}

// load reads files.
type load struct {
	*Scan
	ctx    context.Context //nolint:containedctx // of one call
	single bool            // the user has named the file itself, so that it must be of a known form
	vex    bool            // only statements are wanted
}

// source returns the source of a form of what a user has named.
func (l *load) source(name, form string) *Source {
	for _, d := range l.data {
		if d.Path == name && d.Form == form {
			return d
		}
	}
	src := &Source{Path: name, Form: form}
	l.data = append(l.data, src)
	return src
}

// file reads one file that a user has named, or that is in the directory of that name.
func (l *load) file(file, of string) error {
	err := l.read(file, of)
	return fault.Wrap(fault.BadInput, err, "reading vulnerability data of %s", file)
}

func (l *load) read(file, of string) error {
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err == nil && string(magic[:]) == "PK\x03\x04" {
		return l.archive(f, info, file)
	}
	sum := sha256.New()
	in, err := decompress.Reader(io.TeeReader(ctxio.Reader(l.ctx, f), sum))
	if err != nil {
		return err
	}
	defer in.Close()
	whole, err := l.stream(in, file, of)
	if err != nil || whole == nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // the digest is of all
		return err
	}
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	whole.SHA256, whole.FileTime = hex.EncodeToString(sum.Sum(nil)), info.ModTime().UTC()
	return nil
}

// head is how much of a file says in which form it is.
const head = 64 << 10

// stream reads a file of one form and returns its source if that is the file alone.
func (l *load) stream(r io.Reader, file, of string) (*Source, error) {
	in := bufio.NewReaderSize(r, head)
	start, err := in.Peek(head)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	m := &meter{r: in, left: maxRecord, total: maxStream}
	switch {
	case len(bytes.TrimSpace(start)) == 0:
		return nil, errors.New("it is empty")
	case isTracker(start) && !l.vex:
		src := l.source(file, formTracker)
		return src, ended(l.tracker(json.NewDecoder(m), m.step, src))
	case bytes.TrimSpace(start)[0] == '[' && !l.vex:
		return l.list(m, of)
	}
	text, err := bounded.Read(in, maxRecord)
	if err != nil {
		return nil, err
	}
	src, err := l.document(text, of)
	if src == nil && err == nil && l.single {
		err = errors.New("it is not of a known form: docs/vulns.md lists them")
	}
	if of != file {
		src = nil
	}
	return src, err
}

// ended makes of the end of a file in the middle of a value what it is.
func ended(err error) error {
	syntax := (*json.SyntaxError)(nil)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &syntax) && strings.HasPrefix(syntax.Error(), "unexpected end") {
		return errors.New("it ends in the middle: read or fetch it again")
	}
	return err
}

// isTracker reports whether the first value of an object is an object of vulnerabilities.
func isTracker(start []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(start))
	var tokens []json.Token
	for len(tokens) < 5 {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		tokens = append(tokens, t)
	}
	name, _ := tokens[3].(string)
	vulnerability := strings.HasPrefix(name, "CVE-") || strings.HasPrefix(name, "TEMP-")
	return tokens[0] == json.Delim('{') && tokens[2] == json.Delim('{') && tokens[4] == json.Delim('{') && vulnerability
}

// list reads an array of records.
func (l *load) list(m *meter, of string) (*Source, error) {
	dec := json.NewDecoder(m)
	if err := open(dec, m.step, '['); err != nil {
		return nil, ended(err)
	}
	var last *Source
	for dec.More() {
		m.step()
		var text json.RawMessage
		if err := dec.Decode(&text); err != nil {
			return nil, ended(err)
		}
		src, err := l.document(text, of)
		if err != nil {
			return nil, err
		}
		if src != nil {
			last = src
		}
	}
	_, err := dec.Token()
	if err == nil && last == nil && l.single {
		err = errors.New("it has no records of a known form")
	}
	return nil, ended(err)
}

// document is what any record may have; the members of the forms are all different.
type document struct {
	osvRecord
	cveRecord

	DataType  string          `json:"dataType"`
	Context   json.RawMessage `json:"@context"`
	BOMFormat string          `json:"bomFormat"`
}

// document takes one JSON text; of a form that is not known, it returns no source.
func (l *load) document(text []byte, of string) (*Source, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		if kind := (*json.UnmarshalTypeError)(nil); errors.As(err, &kind) && kind.Field == "" && !l.single {
			return nil, nil // a list or a word: of a form that is not known
		}
		return nil, ended(err)
	}
	switch {
	case bytes.Contains(d.Context, []byte("openvex")):
		src := l.source(of, formOpenVEX)
		return src, l.openVEX(text, src)
	case d.BOMFormat == "CycloneDX":
		src := l.source(of, formCycloneDX)
		return src, l.cycloneDX(text, src)
	case l.vex:
		return nil, nil
	case d.DataType == "CVE_RECORD" || d.Metadata.ID != "":
		src := l.source(of, formCVE)
		return src, l.cve(&d.cveRecord, src)
	case d.ID != "" && (d.Affected != nil || d.Modified != ""):
		src := l.source(of, formOSV)
		return src, l.record(&d.osvRecord, src)
	}
	return nil, nil
}

// archive reads the records of a zip.
func (l *load) archive(f *os.File, info fs.FileInfo, file string) error {
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("%w: fetch it again", err)
	}
	if len(z.File) > maxNames {
		return fmt.Errorf("it has more than %d files", maxNames)
	}
	before, left := l.records(), int64(maxStream)
	all := *l
	all.single = false
	for _, e := range z.File {
		if e.FileInfo().IsDir() || path.Ext(e.Name) != ".json" {
			continue
		}
		if err := l.ctx.Err(); err != nil {
			return err
		}
		text, err := unpack(e)
		if left -= int64(len(text)); err == nil && left < 0 {
			err = bounded.LimitError(maxStream)
		}
		if err == nil {
			_, err = all.document(text, file)
		}
		if err != nil {
			return fmt.Errorf("%q in it: %w", e.Name, err)
		}
	}
	if l.records() == before {
		return errors.New("it has no records of a known form")
	}
	sum := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(sum, ctxio.Reader(l.ctx, f)); err != nil {
		return err
	}
	for _, d := range l.data {
		if d.Path == file {
			d.SHA256, d.FileTime = hex.EncodeToString(sum.Sum(nil)), info.ModTime().UTC()
		}
	}
	return nil
}

func unpack(e *zip.File) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return bounded.ReadSized(r, int64(min(e.UncompressedSize64, head)), maxRecord)
}

// meter bounds what a decoder reads for one value, and in all.
type meter struct {
	r           io.Reader
	left, total int64
}

// step begins the next value.
func (m *meter) step() { m.left = maxRecord }

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("a value has more than %d bytes", maxRecord)
	}
	if m.total <= 0 {
		return 0, bounded.LimitError(maxStream)
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left, m.total)])
	m.left, m.total = m.left-int64(n), m.total-int64(n)
	return n, err
}

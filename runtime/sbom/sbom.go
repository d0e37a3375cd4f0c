// Package sbom joins the bills of materials of a revision's parts into one document of SPDX 2.3
// (https://spdx.github.io/spdx-spec/v2.3/), which a device answers with.
//
// A part has its own as the object PART/sbom.spdx.zst, SPDX JSON in a zstd frame. Identifiers in it are
// made from what the elements are, so that the union of the parts' elements is the whole. The joined
// document is written element by element: the parts' documents are read several times, once for each
// list, and no list is held in memory. What is held is a number for each identifier.
//
// The document is complete even where a part's is missing or cannot be used: each object of the
// revision that no part's document has by its SHA-256 is listed from the state.
package sbom

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/formats/zstddec"
	"github.com/pantavisor/pantavisor/revision/state"
)

// namespace begins the namespaces of joined documents, which end in the digest of the state.
const namespace = "urn:pantavisor:sbom:revision:"

// first is the part whose document comes first. It is that of the device itself: what it says of the
// whole, as until when the device is supported, is read before what others say.
const first = "bsp"

// Revision is what a document is written of.
type Revision struct {
	Name  string
	State *state.State
	// SHA256 is that of the state as it is stored.
	SHA256 string
	// Changed is the time of the document if no part's document says one.
	Changed time.Time
	// Open opens an object whose content is known to be right.
	Open func(sum string) (io.ReadCloser, error)
}

// Write writes the document of a revision, or of one of its parts only. A document of a part that
// cannot be used is an entry in the comment, not an error. Errors are those of w, and of objects that
// cannot be read any more.
func Write(w io.Writer, r *Revision, part string) error {
	j := &joiner{
		rev: r, out: bufio.NewWriterSize(w, bufferSize), zstd: zstddec.NewReader(nil, maxWindow),
		known: map[uint64]uint64{}, parts: partsOf(r.State, part), whole: part == "",
	}
	for i := range j.parts {
		j.check(&j.parts[i])
	}
	if err := j.document(); err != nil {
		return fmt.Errorf("joining bills of materials: %w", err)
	}
	return j.out.Flush()
}

// part is a part of the revision.
type part struct {
	name    string
	sum     string         // of its document; "" when it has none
	objects []state.Object // all others
	// Of its document, and nil when that cannot be used: the lists that have elements, and which
	// objects it has by their digests.
	has, listed map[string]bool
}

// partsOf returns the parts that have objects, or the one that is asked for.
func partsOf(st *state.State, only string) []part {
	var list []part
	at := map[string]int{}
	for _, o := range st.Objects() {
		name := state.PartOf(o.Path)
		if only != "" && name != only {
			continue
		}
		i, ok := at[name]
		if !ok {
			i = len(list)
			at[name] = i
			list = append(list, part{name: name})
		}
		if o.Path == name+"/"+state.SBOM {
			list[i].sum = o.Sum
		}
		list[i].objects = append(list[i].objects, o)
	}
	if len(list) == 0 && only != "" {
		list = []part{{name: only}}
	}
	if i, ok := at[first]; ok {
		bsp := list[i]
		copy(list[1:], list[:i])
		list[0] = bsp
	}
	return list
}

// joiner writes one document.
type joiner struct {
	rev   *Revision
	whole bool
	parts []part
	zstd  *zstddec.Reader
	out   *bufio.Writer

	// known has each identifier's hash with that of what it stands for; written is set in it once the
	// element has been written.
	known map[uint64]uint64
	rest  int // relations of the documents

	created  string
	creators []string
	comments []string
	dangling int // relations that were left out
}

// Bounds. A device with 64 MiB of memory can answer.
const (
	bufferSize  = 32 << 10
	maxWindow   = 8 << 20
	maxDocument = 64 << 20 // bytes of a part's document, as where they are made
	maxElement  = 2 << 20  // bytes of one element of a list, or of another member
	maxElements = 1 << 17  // of all documents, and as many relations
	maxCreators = 32
	maxText     = 1000 // bytes of a creator or of a part's comment
)

// The lists of a document.
const (
	references  = "externalDocumentRefs"
	licences    = "hasExtractedLicensingInfos"
	packages    = "packages"
	files       = "files"
	snippets    = "snippets"
	annotations = "annotations"
	described   = "documentDescribes"
	relations   = "relationships"
)

// lists are all of them, in the order of writing: what relations join comes before them.
var lists = []string{references, licences, packages, files, snippets, annotations, relations}

// read calls visit for each element of the lists of a part's document, and for its other members,
// whose list is their own name. When only is not empty, it is the one list that is visited.
func (j *joiner) read(p *part, only string, visit func(list string, raw []byte) error) error {
	object, err := j.rev.Open(p.sum)
	if err != nil {
		return err
	}
	defer object.Close()
	j.zstd.Reset(object)
	in := &limited{r: j.zstd, all: maxDocument}
	dec := json.NewDecoder(in)
	if err := in.open(dec, '{'); err != nil {
		return err
	}
	members := map[string]bool{}
	for more := dec.More(); more; more = dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if members[name] {
			return fmt.Errorf("it has %.40q twice", name)
		}
		members[name] = true
		wanted := func(list string, raw []byte) error {
			if only != "" && only != list {
				return nil
			}
			return visit(list, raw)
		}
		if err := in.member(dec, name, wanted); err != nil {
			return err
		}
		if name == only {
			return nil
		}
		in.piece = maxElement
	}
	return ending(dec)
}

// ending reads the end of the object, behind which nothing may follow. Only there a frame is known
// to be whole.
func ending(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return err
	}
	_, err := dec.Token()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("something follows the document")
	}
	return err
}

// limited bounds what a decoder reads for one piece, and for all.
type limited struct {
	r          io.Reader
	all, piece int
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	switch {
	case l.all <= 0:
		return 0, fmt.Errorf("it has more than %d bytes", maxDocument)
	case l.piece <= 0:
		return 0, fmt.Errorf("an element has more than %d bytes", maxElement)
	}
	n, err := l.r.Read(p[:min(len(p), l.piece, l.all)])
	l.piece -= n
	l.all -= n
	return n, err
}

// open reads the beginning of an object or array.
func (l *limited) open(dec *json.Decoder, want json.Delim) error {
	l.piece = maxElement
	t, err := dec.Token()
	if err == nil && t != want {
		err = fmt.Errorf("it has no %s where one is expected", want)
	}
	return err
}

// member calls visit for the elements of a list, or for another member.
func (l *limited) member(dec *json.Decoder, name string, visit func(list string, raw []byte) error) error {
	var raw json.RawMessage
	l.piece = maxElement
	if name != described && !slices.Contains(lists, name) {
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		return visit(name, raw)
	}
	if err := l.open(dec, '['); err != nil {
		return err
	}
	for dec.More() {
		l.piece = maxElement
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		if err := visit(name, raw); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// text returns a JSON string.
func text(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // a string always can be written
		return []byte(`""`)
	}
	return b
}

// short cuts a text that others wrote.
func short(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}

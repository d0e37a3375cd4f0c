// Package catalogue keeps a catalogue of releases in a store (ci/store): what a page shows, what
// programs that write cards read, and what pipelines add to.
//
//	releases.json           all releases, in the form of package ci/releases
//	boards.json             the newest release of each board and channel
//	boards/NAME.json        the releases of a board, with all their files
//	index.html, boards/NAME.html, style.css
//	VERSION/NAME/           the files of a release
//	CHANNEL.json            the newest images of devices of the Hub
//
// Every file of the catalogue is changed by compare-and-swap, and an addition that was interrupted can
// be repeated: pipelines that add at the same time lose nothing. A release is in releases.json only
// when all its files are there.
package catalogue

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Names of files of a catalogue, and their forms.
const (
	boardsName   = "boards.json"
	boardsFormat = "pantavisor-boards@1"
	boardFormat  = "pantavisor-board@1"
)

// maxBoard bounds the list of releases of a board, and that of boards, in bytes.
const maxBoard = 64 << 20

// dateForm is the form of a release's date, in UTC.
const dateForm = "2006-01-02 15:04"

// Options are those of all that changes a catalogue.
type Options struct {
	// Public is the address at which others read the store, without '/' at its end. Default: that of
	// the bucket; for a directory none: the catalogue has relative addresses then, which programs
	// other than ours may not understand.
	Public string
	// Now is the time; default: now.
	Now time.Time
	// DryRun changes nothing.
	DryRun bool
}

// public is the address without '/' at its end: keys of a bucket with two of them are others.
func (o Options) public(s *store.Store) string {
	return strings.TrimSuffix(cmp.Or(o.Public, s.URL("")), "/")
}

func (o Options) date() string {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	return o.Now.UTC().Format(dateForm)
}

// Entry is a release of a board.
type Entry struct {
	Channel string `json:"channel"`
	Version string `json:"version"`
	Date    string `json:"date"`
	// Index lists the files, which are in VERSION/NAME/; its digest is that of index.json there.
	IndexSHA256 string          `json:"index_sha256"`
	Index       *releases.Index `json:"index"`
	// FullImage and Exports are the archives that were made for the catalogue; nil for none.
	FullImage *releases.File `json:"full_image,omitempty"`
	Exports   *releases.File `json:"pvrexports,omitempty"`
	// Signatures are the files beside the index that sign it.
	Signatures []string `json:"signatures,omitempty"`
}

// board is the file of a board.
type board struct {
	Format   string  `json:"format"`
	Name     string  `json:"name"`
	Releases []Entry `json:"releases"` // the newest first
}

// boards is the file of all boards.
type boards struct {
	Format string              `json:"format"`
	Public string              `json:"public,omitempty"`
	Boards map[string]*summary `json:"boards"`
}

// summary is a board on the first page.
type summary struct {
	Description string `json:"description,omitempty"`
	Arch        string `json:"arch,omitempty"`
	// Newest is the newest release of each channel.
	Newest map[string]*newest `json:"newest"`
}

// newest is the newest release of a channel.
type newest struct {
	Version string `json:"version"`
	Date    string `json:"date"`
	// Image is the smallest form of the main image; nil for a release without one.
	Image  *releases.File `json:"image,omitempty"`
	Signed bool           `json:"signed,omitempty"`
}

func boardName(name string) string { return "boards/" + name + ".json" }

// directoryOf is the directory of a release in the store.
func directoryOf(version, name string) string { return version + "/" + name + "/" }

// updateJSON changes a file of ours.
func updateJSON[T any](ctx context.Context, s *store.Store, name string, do func(v *T) error) error {
	return s.Update(ctx, name, maxBoard, func(old []byte) ([]byte, error) {
		v := new(T)
		if old != nil {
			if err := json.Unmarshal(old, v); err != nil {
				return nil, fault.New(fault.BadInput, "reading %s: %w; bring back an earlier one, or remove it and add the releases again", name, err)
			}
		}
		if err := do(v); err != nil {
			return nil, err
		}
		out, err := json.MarshalIndent(v, "", " ")
		return append(out, '\n'), fault.Wrap(fault.Internal, err, "writing %s", name)
	})
}

// put adds a release, in place of the same version of its channel.
func (b *board) put(name string, e Entry) error {
	if err := checkForm(b.Format, boardFormat); err != nil {
		return err
	}
	b.Format, b.Name = boardFormat, name
	b.Releases = slices.DeleteFunc(b.Releases, func(r Entry) bool { return r.Channel == e.Channel && r.Version == e.Version })
	b.Releases = append(b.Releases, e)
	slices.SortStableFunc(b.Releases, func(a, b Entry) int {
		return cmp.Or(releases.Compare(b.Version, a.Version), cmp.Compare(a.Channel, b.Channel))
	})
	return nil
}

// summary returns what the first page shows, nil for a board without releases.
func (b *board) summary() *summary {
	if len(b.Releases) == 0 {
		return nil
	}
	first := b.Releases[0].Index
	out := &summary{Description: first.Board.Description, Arch: first.Board.Arch, Newest: map[string]*newest{}}
	for i := range b.Releases {
		r := &b.Releases[i]
		if out.Newest[r.Channel] == nil {
			_, image := r.Index.Image()
			out.Newest[r.Channel] = &newest{r.Version, r.Date, image, len(r.Signatures) > 0}
		}
	}
	return out
}

// checkForm returns an error for a file that a newer program has written.
func checkForm(got, want string) error {
	if got != "" && got != want {
		return fault.New(fault.Unsupported, "it has the format %.100q, and not %s: a newer program has written it", got, want)
	}
	return nil
}

// readBoard reads the releases of a board, and the version of the file.
func readBoard(ctx context.Context, s *store.Store, name string) (*board, string, error) {
	var b board
	version, err := readJSON(ctx, s, boardName(name), &b)
	if err == nil {
		err = checkForm(b.Format, boardFormat)
	}
	for _, r := range b.Releases {
		if r.Index == nil {
			return nil, "", fault.New(fault.BadInput, "reading %s: %s has no index", boardName(name), r.Version)
		}
	}
	return &b, version, err
}

func readJSON(ctx context.Context, s *store.Store, name string, v any) (string, error) {
	text, version, err := s.Get(ctx, name, maxBoard)
	if err == nil {
		err = fault.Wrap(fault.BadInput, json.Unmarshal(text, v), "reading %s", name)
	}
	return version, err
}

// refresh makes the summary and the pages of boards what their releases are. Another pipeline may do
// so at the same time: it is repeated until nothing has changed meanwhile.
func refresh(ctx context.Context, s *store.Store, o Options, names []string) error {
	for _, name := range names {
		if err := refreshBoard(ctx, s, o, name); err != nil {
			return err
		}
	}
	if _, err := s.Put(ctx, styleName, styles(), store.Any); err != nil {
		return err
	}
	return settle(ctx, s, boardsName, "index.html", func(text []byte) ([]byte, error) {
		var all boards
		if err := json.Unmarshal(text, &all); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading %s", boardsName)
		}
		return indexPage(&all, o.public(s))
	})
}

// refreshBoard makes the summary and the page of a board.
func refreshBoard(ctx context.Context, s *store.Store, o Options, name string) error {
	err := settle(ctx, s, boardName(name), "boards/"+name+".html", func(text []byte) ([]byte, error) {
		var b board
		if err := json.Unmarshal(text, &b); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading %s", boardName(name))
		}
		return boardPage(&b, o.public(s))
	})
	if err != nil {
		return err
	}
	return updateJSON(ctx, s, boardsName, func(all *boards) error {
		if err := checkForm(all.Format, boardsFormat); err != nil {
			return err
		}
		// It is read here, so that a summary of older releases is never written over a newer one.
		b, _, err := readBoard(ctx, s, name)
		if err != nil {
			return err
		}
		all.Format, all.Public = boardsFormat, o.public(s)
		if all.Boards == nil {
			all.Boards = map[string]*summary{}
		}
		if sum := b.summary(); sum != nil {
			all.Boards[name] = sum
		} else {
			delete(all.Boards, name)
		}
		return nil
	})
}

// settle writes a page of a file, until the file is still the one that the page was made of.
func settle(ctx context.Context, s *store.Store, name, page string, render func(text []byte) ([]byte, error)) error {
	for was := ""; ; {
		text, version, err := s.Get(ctx, name, maxBoard)
		if err != nil || version == was {
			return err
		}
		out, err := render(text)
		if err != nil {
			return err
		}
		if _, err := s.Put(ctx, page, out, store.Any); err != nil {
			return err
		}
		was = version
	}
}

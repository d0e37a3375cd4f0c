package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/container"
	sbompart "github.com/pantavisor/pantavisor/sbom/part"
	"github.com/pantavisor/pantavisor/sbom/scan"
)

// bill makes the application's bill of materials when everything else is there. An application that
// has none gets none by being installed or updated: it would be a new file of a part that may be signed.
func (b *build) bill(ctx context.Context) error {
	name := filepath.Base(sbompart.Key(b.name))
	if b.w.NoSBOM {
		b.change.remove(name)
		return nil
	}
	before, err := b.before(name)
	if err != nil {
		return err
	}
	switch {
	case before == nil && !b.added:
		return nil
	case before != nil && len(b.result.Written) == 0:
		return nil // nothing has changed
	}
	files, st, err := b.state(name)
	if err != nil {
		return err
	}
	o := container.Options{
		Part: b.name, State: st, Attached: b.attached(ctx),
		File: func(key, _ string) (string, error) { return files[key], nil },
	}
	if b.root != nil {
		o.Root = map[string]scan.Walk{b.name + "/" + rootName: b.root.Walk}
	}
	if b.image == nil {
		o.Before = before // the image was not looked at
	}
	d, err := container.Of(ctx, o)
	if err != nil {
		return fmt.Errorf("making its bill of materials: %w", err)
	}
	d.Seal()
	data, err := sbompart.Encode(d)
	if err != nil {
		return fmt.Errorf("making its bill of materials: %w", err)
	}
	return b.write(name, data)
}

// before returns the document that the application has; one that cannot be read is made anew.
func (b *build) before(name string) (*sbom.Document, error) {
	f, err := os.Open(filepath.Join(b.change.final, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := sbompart.Decode(f)
	if err != nil {
		b.w.notice(b.name, "WARN: %s is made anew: %v", sbompart.Key(b.name), err)
		return &sbom.Document{}, nil
	}
	return d, nil
}

// attached returns the documents that are attached to the image. That there may be some which cannot
// be had is no reason not to have the application.
func (b *build) attached(ctx context.Context) []container.Attached {
	if b.image == nil {
		return nil
	}
	list, err := b.image.Attached(ctx)
	if err != nil {
		b.w.notice(b.name, "WARN: %v", err)
		return nil
	}
	var out []container.Attached
	for _, a := range list {
		out = append(out, container.Attached{MediaType: a.MediaType, Data: a.Data, SHA256: a.SHA256, To: b.image.Digest})
	}
	return out
}

// state returns what the application will be, without its document, and where its files are now.
func (b *build) state(document string) (files map[string]string, st *state.State, err error) {
	files, st = map[string]string{}, state.New(state.Spec)
	gone := slices.Concat(b.change.gone, b.change.first, []string{document})
	err = filepath.WalkDir(b.change.final, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !e.Type().IsRegular():
			return nil
		}
		rel, err := filepath.Rel(b.change.final, path)
		name := filepath.ToSlash(rel)
		if err == nil && !slices.Contains(gone, name) && !strings.HasPrefix(e.Name(), ".") {
			files[b.name+"/"+name] = path
		}
		return err
	})
	for i, name := range b.change.names {
		files[b.name+"/"+name] = b.change.files[i].Name()
	}
	for key, path := range files {
		if err == nil {
			err = addFile(st, key, path)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading its files: %w", err)
	}
	return files, st, nil
}

// maxInline bounds a JSON file, in bytes.
const maxInline = 64 << 20

// addFile adds a file to a state: JSON as a value, all others as objects.
func addFile(st *state.State, key, path string) error {
	if state.IsInline(key) {
		text, err := bounded.ReadRegular(path, maxInline)
		if err != nil {
			return err
		}
		v, err := canon.One(text)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "reading %s", key)
		}
		return st.SetValue(key, v)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := fileSum(f)
	if err != nil {
		return err
	}
	return st.SetObject(key, sum)
}

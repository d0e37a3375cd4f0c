package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// part is a part fetched from another repository.
type part struct {
	state *state.State // what the fragment selects
	store *objects.Store
	name  string // the application there
}

// fetch gets REPOSITORY#PART[,MORE]; the first name is the application.
func (w *Workspace) fetch(ctx context.Context, reference string) (*part, error) {
	repository, fragment, ok := strings.Cut(reference, "#")
	if !ok || fragment == "" {
		return nil, fault.New(fault.BadInput, "source %q: REPOSITORY#PART is expected", reference)
	}
	f, err := state.ParseFragment(fragment)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the fragment of %s", reference)
	}
	if w.Repository == nil {
		return nil, fault.New(fault.Unsupported, "source %q: other repositories are not available here", reference)
	}
	all, store, err := w.Repository.Fetch(ctx, repository, f)
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", repository, err)
	}
	for _, name := range f.Unmatched(all) {
		w.notice("", "WARN: %s has no %s", repository, name)
	}
	p := &part{store: store, name: state.PartOf(strings.Trim(strings.Split(fragment, ",")[0], "/"))}
	if p.state, err = state.Get(state.New(all.Spec()), all, f); err != nil {
		return nil, fmt.Errorf("selecting %s: %w", fragment, err)
	}
	if _, ok := p.state.Value(p.name + "/" + SourceName); !ok {
		return nil, fault.New(fault.BadInput, "source %q: it has no application %q with %s", reference, p.name, SourceName)
	}
	return p, nil
}

// addPart makes an application from a part of another repository.
func (w *Workspace) addPart(ctx context.Context, name, reference string, flags *Source) (*Result, error) {
	p, err := w.fetch(ctx, reference)
	if err != nil {
		return nil, err
	}
	src, err := p.source()
	if err != nil {
		return nil, err
	}
	src.Set("pvr", reference)
	src.SetValue("persistence", flags.Value("persistence"))
	return w.place(ctx, name, p, src)
}

func (p *part) source() (*Source, error) {
	text, _ := p.state.Get(p.name + "/" + SourceName)
	return parseSource(text)
}

// updatePart fetches the part again; arguments, configuration and volumes of this
// checkout stay.
func (w *Workspace) updatePart(ctx context.Context, name string, old *Source, from string) (*Result, error) {
	if from == "" {
		from = old.Text("pvr")
	}
	p, err := w.fetch(ctx, from)
	if err != nil {
		return nil, err
	}
	src, err := p.source()
	if err != nil {
		return nil, err
	}
	src.keepOwn(old)
	src.Set("pvr", from)
	return w.place(ctx, name, p, src)
}

// keepOwn gives the manifest of a part what an application has of its own.
func (s *Source) keepOwn(old *Source) {
	for _, member := range []string{"args", "config", "persistence"} {
		s.SetValue(member, old.Value(member))
	}
}

// place writes the part's files under the application's name, what it renders to,
// and the files of the other names in the fragment under theirs.
func (w *Workspace) place(ctx context.Context, name string, p *part, src *Source) (*Result, error) {
	b, err := w.begin(name, nil, src)
	if err != nil {
		return nil, err
	}
	defer b.end()
	others, err := w.change(w.Dir)
	if err != nil {
		return nil, err
	}
	defer others.abort()
	for _, key := range p.state.Keys() {
		rest, own := strings.CutPrefix(key, p.name+"/")
		switch {
		case key == state.SpecKey, own && slices.Contains(rendered, rest):
		case own:
			err = b.fetched(ctx, b.change, p, key, rest)
		default:
			err = b.fetched(ctx, others, p, key, key)
		}
		if err != nil {
			return nil, fmt.Errorf("taking over %s: %w", key, err)
		}
	}
	return b.finishPart(ctx, others)
}

// rendered are the files that are rendered here and not copied from the part.
var rendered = []string{SourceName, runName, template.ConfigName}

// fetched stages one file of a part.
func (b *build) fetched(ctx context.Context, c *change, p *part, key, name string) error {
	shown := name
	if c == b.change {
		shown = b.name + "/" + name
	}
	sum, isObject := p.state.Object(key)
	if !isObject {
		v, _ := p.state.Value(key)
		b.result.Written = append(b.result.Written, shown)
		return c.write(name, v.Pretty(canon.Checkout))
	}
	if same(filepath.Join(c.final, name), sum) {
		return nil
	}
	r, err := p.store.OpenVerified(sum)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := c.create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	b.result.Written = append(b.result.Written, shown)
	return ctx.Err()
}

// same reports whether a file already has the content.
func same(path, sum string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	have, err := fileSum(f)
	return err == nil && have == sum
}

func (b *build) finishPart(ctx context.Context, others *change) (*Result, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if err := b.findUser(ctx); err != nil {
		return nil, err
	}
	if err := b.render(); err != nil {
		return nil, err
	}
	b.w.say(b.name, "", "Application already up to date. Will skip generating new %s", rootName)
	if err := b.writeJSON(SourceName, b.src.Encode(), b.src.JSON()); err != nil {
		return nil, err
	}
	if err := b.change.commit(); err != nil {
		return nil, err
	}
	return b.result, others.commit()
}

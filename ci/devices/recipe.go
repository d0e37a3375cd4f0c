package devices

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Files of a recipe, below recipes/ID: the state of a revision, laid out for reviews, and which
// revision of which device that was.
const (
	recipesName  = "recipes"
	recipeState  = "state.json"
	recipeOrigin = "revision.json"
)

// recipe is a revision that is kept in git.
type recipe struct {
	state *state.State
	// Device is the device that has the objects, Revision the name of the revision there, "" where
	// revisions have none.
	Device   string `json:"device"`
	Revision string `json:"revision,omitempty"`
}

func (r *run) recipeDir(id string) string { return filepath.Join(r.Dir, recipesName, id) }

// readRecipe reads the recipe of a device from a commit; nil when it has none.
func (r *run) readRecipe(ctx context.Context, commit, id string) (*recipe, error) {
	dir := recipesName + "/" + id + "/"
	text, err := r.git.file(ctx, commit, dir+recipeState)
	if err != nil || text == nil {
		return nil, err
	}
	got := &recipe{}
	if got.state, err = state.Parse(text); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s of %s", dir+recipeState, commit)
	}
	text, err = r.git.file(ctx, commit, dir+recipeOrigin)
	if err == nil && text != nil {
		err = json.Unmarshal(text, got)
	}
	return got, fault.Wrap(fault.BadInput, err, "reading %s of %s", dir+recipeOrigin, commit)
}

// writeRecipe writes the recipe of a device. The state comes last: as long as it is the old one,
// the next update writes both.
func (r *run) writeRecipe(id string, to *recipe) error {
	dir := r.recipeDir(id)
	origin, err := json.MarshalIndent(to, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{recipeOrigin, origin}, {recipeState, to.state.Pretty(canon.Checkout)}} {
		if err == nil {
			err = atomicfile.Write(filepath.Join(dir, f.name), append(f.data, '\n'), 0o644)
		}
	}
	return fault.Wrap(fault.IO, err, "writing the recipe of %s", id)
}

// Change is a part of a device's state that differs.
type Change struct {
	Part   string `json:"part"`
	Change string `json:"change"`         // "added", "changed" or "removed"
	From   string `json:"from,omitempty"` // what it was made of, as far as its manifests say
	To     string `json:"to,omitempty"`
}

// String describes the change in one line.
func (c Change) String() string {
	switch {
	case c.Change == "added" && c.To != "":
		return fmt.Sprintf("%s added: %s", c.Part, c.To)
	case c.Change != "changed" || c.From == c.To:
		return c.Part + " " + c.Change
	}
	return fmt.Sprintf("%s: %s -> %s", c.Part, c.From, c.To)
}

// changes lists what differs from one state to another. The first is nil for none.
func changes(from, to *state.State) []Change {
	if from == nil {
		from = state.New(to.Spec())
	}
	out := []Change{}
	for _, p := range state.Compare(from, to, func(string) (int64, bool) { return 0, true }).Parts {
		out = append(out, Change{p.Part, p.Change, madeOf(from, p.Part), madeOf(to, p.Part)})
	}
	return out
}

// madeOf says what a part is made of: the image with the beginning of its digest, the release of
// the BSP, or the source; "" when nothing says so.
func madeOf(st *state.State, part string) string {
	if part == bspPart {
		return text(st, bspPart+"/build.json", "gitdescribe")
	}
	key := part + "/" + app.SourceName
	if name := text(st, key, "docker_name"); name != "" {
		digest := text(st, key, "docker_digest")
		if over := text(st, key, "docker_ovl_digest"); over != "" {
			digest = over
		}
		_, sum, _ := strings.Cut(digest, "sha256:")
		return fmt.Sprintf("%s:%s (%.12s)", name, text(st, key, "docker_tag"), sum)
	}
	if digest := text(st, key, "rootfs_digest"); digest != "" {
		return fmt.Sprintf("%s (%.12s)", text(st, key, "rootfs_url"), strings.TrimPrefix(digest, "sha256:"))
	}
	return text(st, key, "pvr")
}

// text returns a member of an inline file that is a text.
func text(st *state.State, key, member string) string {
	v, ok := st.Value(key)
	if !ok {
		return ""
	}
	m, _ := v.Get(member)
	s, _ := m.Text()
	return s
}

package ctrl

import (
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// listEngine shows lists as the engine does: the same one until something changes.
type listEngine struct {
	*fakeEngine
	list []api.Container
}

func (e *listEngine) Containers() ([]api.Container, error) { return e.list, nil }

// TestListIsWrittenOnce: a list is encoded once, and never shown in the place of another.
func TestListIsWrittenOnce(t *testing.T) {
	t.Parallel()
	e := &listEngine{list: []api.Container{{Name: "one", Status: "STARTED"}, {Name: "two", Status: "STOPPED"}}}
	s := New(Options{Engine: e})
	first, again := s.listContainers(nil), s.listContainers(nil)
	if &first.body[0] != &again.body[0] {
		t.Error("the same list is encoded twice")
	}
	if got := string(first.body); !strings.Contains(got, `"two"`) || strings.Count(got, `"roles":[]`) != 2 {
		t.Errorf("the list is %s", got)
	}
	if e.list[0].Roles != nil {
		t.Error("the engine's own list was changed")
	}
	e.list = e.list[:1]
	if got := string(s.listContainers(nil).body); strings.Contains(got, `"two"`) {
		t.Errorf("a shorter list shows %s", got)
	}
	e.list = []api.Container{{Name: "one", Status: "STOPPED"}}
	if got := string(s.listContainers(nil).body); strings.Contains(got, "STARTED") {
		t.Errorf("after a change the list shows %s", got)
	}
	e.list = nil
	if got := string(s.listContainers(nil).body); got != "[]" {
		t.Errorf("without containers the list is %s", got)
	}
}

package catalogue

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/internal/browsertest"
)

// hostile is a text that must stay a text.
const hostile = `"><script>document.title="bad"</script>' $(id) `

// TestHostileNames has names of files and boards that an address, a shell and HTML understand
// otherwise.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	x := &releases.Index{Target: "rpi", Version: "1.0", Board: releases.Board{Description: hostile, Arch: hostile}}
	x.Add("it's #1?.img", 1, strings.Repeat("0", 64))
	x.Add(hostile+".img.bmap", 1, strings.Repeat("0", 64))
	x.Add("javascript:alert(1).spdx.json", 1, strings.Repeat("0", 64))
	b := &board{Name: "rpi", Releases: []Entry{{Channel: "stable", Version: "1.0", Index: x, Signatures: []string{"<i>"}}}}
	all := &boards{Boards: map[string]*summary{"rpi": b.summary()}}
	for _, render := range []func() ([]byte, error){
		func() ([]byte, error) { return boardPage(b, "") },
		func() ([]byte, error) { return indexPage(all, "https://x/'a b'") },
	} {
		page, err := render()
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"<script", "<i>", `href="javascript:`, "onerror"} {
			if strings.Contains(string(page), bad) {
				t.Errorf("the page has %s:\n%s", bad, page)
			}
		}
	}
	page, err := boardPage(b, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := `href="../1.0/rpi/it%27s%20%231%3F.img"`; !strings.Contains(string(page), want) {
		t.Errorf("the page does not have %s:\n%s", want, page)
	}
	for word, want := range map[string]string{"a.img": "a.img", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'", "a b": "'a b'"} {
		if got := quote(word); got != want {
			t.Errorf("quote(%q) = %s", word, got)
		}
	}
}

// TestPages looks at the pages in a browser that may run no script of theirs.
func TestPages(t *testing.T) {
	b, axe := browsertest.New(t), browsertest.Axe(t)
	s, _ := newStore(t)
	key := newKey(t)
	dirs := []string{newRelease(t, "rpi", "1.9", nil), newRelease(t, "rpi", "1.10", key), newRelease(t, "rpi", "1.11-rc1", nil), newRelease(t, "x64", "1.0-rc1", nil)}
	if _, err := Add(t.Context(), s, atNow(), dirs); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(Handler(s))
	defer server.Close()
	b.View(1280, 900, "light")
	b.Do("Page.navigate", map[string]any{"url": server.URL})
	b.Has("board-rpi", "1.10")
	b.Has("board-rpi", "mage flash rpi /dev/sdX --from CATALOGUE --version 1.10")
	b.Has("board-x64", "1.0-rc1")
	b.Accessible(axe, "the first page")
	b.Picture("index")

	b.Click("c-a") // stable
	b.Until("!document.getElementById('board-x64').checkVisibility() && document.getElementById('board-rpi').checkVisibility()")
	b.Until("!document.getElementById('board-rpi').innerText.includes('1.11-rc1')")
	b.Eval("document.querySelector('button[type=reset]').click()")
	b.Until("document.getElementById('board-x64').checkVisibility()")

	for _, colours := range []string{"light", "dark"} {
		b.View(360, 740, colours)
		b.Do("Page.navigate", map[string]any{"url": server.URL + "/boards/rpi.html"})
		b.Until("document.querySelectorAll('section.release').length == 2")
		b.Until("document.body.innerText.includes('SHA256SUMS.minisig') && document.body.innerText.includes('bmaptool copy')")
		b.Accessible(axe, "the page of a board, "+colours)
		b.Picture("board-" + colours)
	}
	if b.Eval("document.scripts.length") != 0.0 {
		t.Error("the page has a script")
	}
	if len(b.Faults) > 0 {
		t.Errorf("the browser complains: %q", b.Faults)
	}
}

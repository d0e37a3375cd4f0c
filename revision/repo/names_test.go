package repo

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWindowsDefect(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"con", "a/NUL", "aux.json", "lpt1.tar.gz", "COM¹", "a:b", "app/c:/x", `a\b`, "what?", "*", "a|b", "a\x01", "dir./file", "end ", "end.",
		"con .txt", "CONOUT$", `q"`, "<", ">",
	} {
		if windowsDefect(bad) == "" {
			t.Errorf("%q: Windows cannot have it", bad)
		}
	}
	for _, good := range []string{"console", "com", "com10", "lpt", "a b", ".hidden", "a.b.c", "nul-1", "bsp/kernel.img", "ü", "_config/app/CONF"} {
		if why := windowsDefect(good); why != "" {
			t.Errorf("%q: %s", good, why)
		}
	}
}

func TestCollisions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ keys, want []string }{
		"none":                    {[]string{"a", "b/a", "b/c", "c"}, nil},
		"files":                   {[]string{"App/x", "App/X"}, []string{"App/x = App/X"}},
		"directories once":        {[]string{"App/x", "App/y", "app/x", "app/z"}, []string{"App = app"}},
		"file and directory":      {[]string{"a/b", "A"}, []string{"a = A"}},
		"composed and decomposed": {[]string{"caf\u00e9", "cafe\u0301"}, []string{"caf\u00e9 = cafe\u0301"}},
		"beyond ASCII":            {[]string{"Straße", "STRASSE", "Ä", "ä"}, []string{"Ä = ä"}},
	} {
		var got []string
		eachCollision(c.keys, func(a, b string) bool {
			got = append(got, a+" = "+b)
			return true
		})
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// Names that the file system takes for one are told before anything is written.
func TestCheckoutOnFoldingFileSystem(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"App/x": "one", "app/x": "two", "other": "three"})
	if err := errors.Join(os.Remove(filepath.Join(dir, "other")), os.Symlink(Dir, filepath.Join(dir, ".PVR"))); err != nil { // as on such a file system
		t.Fatal(err)
	}
	r, err := Open(t.Context(), dir, Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Checkout(t.Context(), CheckoutOptions{}); !errors.Is(err, errName) {
		t.Errorf("two names that are one: %v, want %v", err, errName)
	}
	if _, err := os.Lstat(filepath.Join(dir, "other")); err == nil {
		t.Error("files were written nevertheless")
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, ".PVR")), r.Checkout(t.Context(), CheckoutOptions{})); err != nil {
		t.Errorf("where case counts: %v", err)
	}
}

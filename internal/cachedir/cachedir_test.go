package cachedir

import "testing"

func TestFind(t *testing.T) {
	for _, c := range []struct{ own, xdg, home, want string }{
		{"/a/../b", "/xdg", "/home", "/b"},
		{"", "/xdg", "/home", "/xdg/pantavisor"},
		{"", "", "/home", "/home/.cache/pantavisor"},
		{"", "", "", ""},
	} {
		t.Setenv(Variable, c.own)
		t.Setenv("XDG_CACHE_HOME", c.xdg)
		t.Setenv("HOME", c.home)
		got, err := Find()
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

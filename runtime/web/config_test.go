package web

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
)

func TestConfigure(t *testing.T) {
	t.Parallel()
	const manual = `{"httpd":{"listen":"0.0.0.0","port":"12368"}}`
	const secret = `{"httpd":{"listen":"0.0.0.0","port":8080,"token":"0123456789abcdef","hosts":["Gate.Example."]}}`
	for name, c := range map[string]struct {
		file, part, cmdline string
		want                string // address
		off                 bool
		warns               string // "" for no warning
	}{
		"nothing":              {want: "127.0.0.1:12368"},
		"manual":               {file: manual, want: "0.0.0.0:12368", warns: "Everybody in the network"},
		"earlier name":         {part: manual, want: "0.0.0.0:12368", warns: "Everybody in the network"},
		"file first":           {file: `{"httpd":{"port":"1"}}`, part: manual, want: "127.0.0.1:1"},
		"kernel":               {cmdline: "root=x pvrskd_httpd_listen=0.0.0.0 quiet", want: "0.0.0.0:12368", warns: "Everybody in the network"},
		"kernel first":         {file: manual, cmdline: "pvrskd_httpd_listen=127.0.0.1", want: "127.0.0.1:12368"},
		"token":                {file: secret, want: "0.0.0.0:8080"},
		"kernel and token":     {file: secret, cmdline: "pvrskd_httpd_listen=10.0.0.1", want: "10.0.0.1:8080"},
		"short token":          {file: `{"httpd":{"listen":"::","token":"secret"}}`, want: "[::]:12368", warns: "can be guessed"},
		"IPv6":                 {file: `{"httpd":{"listen":"[::1]"}}`, want: "[::1]:12368"},
		"name":                 {file: `{"httpd":{"listen":"localhost"}}`, want: "127.0.0.1:12368"},
		"off":                  {file: `{"httpd":{"listen":"off"}}`, want: "127.0.0.1:12368", off: true},
		"off by kernel":        {file: manual, cmdline: "pvrskd_httpd_listen=off", want: "0.0.0.0:12368", off: true},
		"on by kernel":         {file: `{"httpd":{"listen":"off"}}`, cmdline: "pvrskd_httpd_listen=::1", want: "[::1]:12368"},
		"no address":           {file: `{"httpd":{"listen":"eth0"}}`, want: "127.0.0.1:12368", warns: `"eth0", which is not an address`},
		"port":                 {file: `{"httpd":{"listen":"0.0.0.0","port":"70000"}}`, want: "127.0.0.1:12368", warns: "1 to 65535"},
		"not JSON":             {file: `httpd: off`, want: "127.0.0.1:12368", warns: "cannot be used"},
		"a token that is none": {file: `{"httpd":{"token":12345}}`, cmdline: "pvrskd_httpd_listen=0.0.0.0", want: "127.0.0.1:12368", warns: "does not listen on 0.0.0.0:12368"},
		"part that is none":    {part: `{"httpd":[]}`, cmdline: "pvrskd_httpd_listen=0.0.0.0", want: "127.0.0.1:12368", warns: "does not listen on"},
		"not JSON, and IPv6":   {file: `{`, cmdline: "pvrskd_httpd_listen=::1", want: "[::1]:12368", warns: "cannot be used"},
		"other kind of port":   {file: `{"httpd":{"port":true}}`, want: "127.0.0.1:12368", warns: "cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config.json")
			if c.file != "" {
				if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := Configure(file, c.cmdline, func() (*state.State, error) {
				st := state.New(state.Spec)
				if c.part == "" {
					return st, nil
				}
				return st, st.Set(configKey, []byte(c.part))
			})
			if !got.Off {
				got.Judge(got.Listen)
			}
			warned := strings.Join(got.Warnings, "\n")
			if got.Listen.String() != c.want || got.Off != c.off || !strings.Contains(warned, c.warns) || c.warns == "" && warned != "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestConfigureWithoutDevice wants a server that cannot ask for the state to be closed.
func TestConfigureWithoutDevice(t *testing.T) {
	t.Parallel()
	got := Configure(filepath.Join(t.TempDir(), "none"), "", func() (*state.State, error) { return nil, errors.New("no answer") })
	if got.Listen.String() != "127.0.0.1:12368" || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "no answer") {
		t.Errorf("%+v", got)
	}
}

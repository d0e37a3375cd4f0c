package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	tests := []struct {
		name        string
		args        []string
		code        int
		out, errout string
	}{
		{"no name at all", nil, usage, "", "usage: pv-sdk COMMAND"},
		{"no word", []string{"/usr/bin/pv-sdk"}, usage, "", "  pvtx "},
		{"unknown word", []string{"pv-sdk", "dance"}, usage, "", "usage: pv-sdk COMMAND"},
		{"help", []string{"pv-sdk", "--help"}, 0, "  pv-web ", ""},
		{"by name", []string{"/usr/bin/pvtx", "--help"}, 0, "pvtx commit --run", ""},
		{"by word", []string{"pv-sdk", "pvtx", "--help"}, 0, "pvtx commit --run", ""},
		{"name before word", []string{"pvcontrol", "pvtx"}, 1, "", "pvtx"},
		{"web server", []string{"pv-web", "--help"}, 0, "Usage: pv-web", ""},
		{"mistake of the web server", []string{"pv-web", "dance"}, 1, "", `pv-web: unexpected argument "dance"`},
		{"pventer", []string{"pventer", "--help"}, 0, "pventer", ""},
		{"pvcurl", []string{"pvcurl", "--help"}, 0, "pvcurl", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var out, errout bytes.Buffer
			code := run(t.Context(), tc.args, strings.NewReader(""), &out, &errout)
			if code != tc.code || !strings.Contains(out.String(), tc.out) || !strings.Contains(errout.String(), tc.errout) {
				t.Errorf("code %d, out %q, err %q", code, &out, &errout)
			}
		})
	}
}

package pipelinelog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// environment returns a getenv of words NAME=VALUE.
func environment(words ...string) func(string) string {
	return func(name string) string {
		for _, w := range words {
			if k, v, _ := strings.Cut(w, "="); k == name {
				return v
			}
		}
		return ""
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{
		"GITHUB_ACTIONS=true": "::group::a b\nx\n::endgroup::\n::group::c\n::endgroup::\n::error::50%25 of%0Aall\n::warning::w\n",
		"GITLAB_CI=true": "\x1b[0Ksection_start:7:a_b[collapsed=true]\r\x1b[0Ka b\nx\n\x1b[0Ksection_end:7:a_b\r\x1b[0K\n" +
			"\x1b[0Ksection_start:7:c[collapsed=true]\r\x1b[0Kc\n\x1b[0Ksection_end:7:c\r\x1b[0K\n" +
			"\x1b[31;1merror: 50% of\nall\x1b[0m\n\x1b[33;1mwarning: w\x1b[0m\n",
		"CI=true": "x\n",
	} {
		var text bytes.Buffer
		l := New(&text, environment(env))
		l.now = func() time.Time { return time.Unix(7, 0) }
		l.Open("a\rb")
		text.WriteString("x\n")
		l.Open("c")
		l.Close()
		l.Close()
		l.Error("50% of\nall")
		l.Warning("w")
		if diff := cmp.Diff(want, text.String()); diff != "" {
			t.Errorf("%s:\n%s", env, diff)
		}
		if l.Here() != (env != "CI=true") {
			t.Errorf("%s: Here() = %v", env, l.Here())
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "summary")
	l := New(&bytes.Buffer{}, environment("GITHUB_STEP_SUMMARY="+file))
	for _, text := range []string{"one", "two"} {
		if err := l.Summarize(text); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := New(nil, environment("GITHUB_STEP_SUMMARY="+file+"/x")).Summarize("x"); err == nil {
		t.Error("a summary that cannot be written is no error")
	}
	if err := New(nil, environment()).Summarize("x"); err != nil {
		t.Error(err)
	}
}

package yocto

import (
	"io"
	"strings"
	"testing"
)

// TestWithoutTree has that nothing claims to have run.
func TestWithoutTree(t *testing.T) {
	t.Parallel()
	results, err := Check(t.Context(), Options{Root: root, Work: t.TempDir(), Out: io.Discard})
	if err != nil || len(results) != len(checks) {
		t.Fatalf("%v, %v", results, err)
	}
	for _, r := range results {
		if r.State != "not run" || !strings.Contains(r.Reason, "--oecore=DIR") {
			t.Errorf("%v", r)
		}
	}
	if _, err := Check(t.Context(), Options{Root: root, Work: t.TempDir(), OECore: t.TempDir(), Out: io.Discard}); err == nil || !strings.Contains(err.Error(), "oe-init-build-env") {
		t.Errorf("an empty tree: %v", err)
	}
}

func TestJudges(t *testing.T) {
	t.Parallel()
	const task = "\"a.do_b\" [label=\"a do_b\"]\n"
	for output, good := range map[string]bool{
		"one\ntwo\n" + task: true, "": false, "1\n2\n3\n4\n" + task: false, "one\n" + strings.Repeat(task, maxTasks+1): false,
	} {
		if err := few(output); (err == nil) != good {
			t.Errorf("few(%.40q): %v", output, err)
		}
	}
	for output, good := range map[string]bool{
		"NOTE: Tasks Summary: Attempted 58 tasks of which 58 didn't need to be rerun and all succeeded.": true,
		"NOTE: Tasks Summary: Attempted 58 tasks of which 57 didn't need to be rerun and all succeeded.": false,
		"": false,
	} {
		if err := nothing(output); (err == nil) != good {
			t.Errorf("nothing(%q): %v", output, err)
		}
	}
}

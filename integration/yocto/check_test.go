package yocto

import (
	"io"
	"strings"
	"testing"
)

// TestWithoutTree has that nothing claims to have run.
func TestWithoutTree(t *testing.T) {
	t.Parallel()
	var results []Result
	tell := func(r Result) { results = append(results, r) }
	if err := Check(t.Context(), Options{Root: root, Work: t.TempDir(), Out: io.Discard, Tell: tell}); err != nil || len(results) != len(checks) {
		t.Fatalf("%v, %v", results, err)
	}
	for _, r := range results {
		if r.State != "not run" || !strings.Contains(r.Reason, "--oecore=DIR") {
			t.Errorf("%v", r)
		}
	}
	if err := Check(t.Context(), Options{Root: root, Work: t.TempDir(), OECore: t.TempDir(), Out: io.Discard, Tell: tell}); err == nil || !strings.Contains(err.Error(), "oe-init-build-env") {
		t.Errorf("an empty tree: %v", err)
	}
}

func TestJudges(t *testing.T) {
	t.Parallel()
	const task = "\"a.do_b\" [label=\"a do_b\"]\n"
	for output, good := range map[string]bool{
		"one\ntwo\n" + task: true, "": false, "1\n2\n3\n4\n" + task: false, "one\n" + strings.Repeat(task, maxTasks+1): false,
	} {
		if _, err := few(t.Context(), nil, "", output); (err == nil) != good {
			t.Errorf("few(%.40q): %v", output, err)
		}
	}
	for output, good := range map[string]bool{
		"NOTE: Tasks Summary: Attempted 58 tasks of which 58 didn't need to be rerun and all succeeded.": true,
		"NOTE: Tasks Summary: Attempted 58 tasks of which 57 didn't need to be rerun and all succeeded.": false,
		"": false,
	} {
		if _, err := nothing(t.Context(), nil, "", output); (err == nil) != good {
			t.Errorf("nothing(%q): %v", output, err)
		}
	}
	for output, want := range map[string]string{
		"KERNEL_FEATURES=\" a.scc pantavisor/pantavisor.scc pantavisor/pantavisor-6.8.scc\"\nSRC_URI=\"file://pantavisor-kmeta;type=kmeta\"": "pantavisor/pantavisor.scc pantavisor/pantavisor-6.8.scc",
		"KERNEL_FEATURES=\"a.scc\"\nSRC_URI=\"file://pantavisor-kmeta;type=kmeta\"":                                                          "",
		"KERNEL_FEATURES=\"pantavisor/pantavisor.scc\"\n":                                                                                    "",
	} {
		if got, err := features(t.Context(), nil, "", output); got != want || (err == nil) != (want != "") {
			t.Errorf("features(%q): %q, %v", output, got, err)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/repo"
)

// makeResults runs "results LIST REPOSITORY TARGET": what a build of a target leaves, the export being that
// of a repository, and the list of mage build --artefacts.
func makeResults(ts *testscript.TestScript, _ bool, args []string) {
	list, target := ts.MkAbs(args[0]), args[2]
	dir := filepath.Join(filepath.Dir(list), "out", target)
	ts.Check(os.MkdirAll(dir, 0o755))
	r, err := repo.Open(context.Background(), ts.MkAbs(args[1]), repo.Options{})
	ts.Check(err)
	defer r.Close()
	f, err := os.Create(filepath.Join(dir, target+".pvr.tgz"))
	ts.Check(err)
	ts.Check(errors.Join(r.Export(context.Background(), f, archive.ExportOptions{}), f.Close()))
	report, err := json.Marshal(build.Report{Target: target, Recipe: &build.Recipe{Lock: "packages: []\n"}})
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, build.ReportName), report, 0o644))
	text, err := json.Marshal(map[string]any{
		"target": target, "directory": dir,
		"artefacts": []any{map[string]any{"path": target + ".img"}, map[string]any{"path": target + ".pvr.tgz", "sha256": "00ff"}},
	})
	ts.Check(err)
	ts.Check(os.WriteFile(list, text, 0o644))
}

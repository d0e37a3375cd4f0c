package licences

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write writes a module's files and returns its directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestModule(t *testing.T) {
	t.Parallel()
	const free = "This is free and unencumbered software released into the public domain."
	dir := write(t, map[string]string{
		"LICENSE": "Permission is hereby granted,\n  free of charge, to any", "NOTICE": "by us", "README": "Apache License Version 2.0", "UNLICENSE": free,
	})
	found, err := ofModule("example.com/m", dir)
	if err != nil || len(found) != 3 {
		t.Fatalf("%v, %v", found, err)
	}
	if found[0].Name != "vendor/example.com/m/LICENSE" || found[0].SPDX != "MIT" || found[1].SPDX != "" || found[2].Name != "" {
		t.Errorf("%+v", found)
	}
	if got := strings.Join(Names(found), " "); got != "MIT Unlicense" {
		t.Errorf("names %q", got)
	}
	if _, err := ofModule("m", write(t, map[string]string{"LICENSE": "ask us"})); err == nil || !strings.Contains(err.Error(), "vendor/m/LICENSE: its licence is not known here") {
		t.Errorf("an unknown licence: %v", err)
	}
}

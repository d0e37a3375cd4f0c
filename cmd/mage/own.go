package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// moduleVariable tells a program that was not made of a product's magefile where this
// module is.
const moduleVariable = "MAGE_PANTAVISOR_DIR"

// own is this module's directory, the magefile of which has the commands for directories
// without one. It is empty when the program does not know it: compiled with -trimpath it
// knows the module's version at best.
func own() string {
	_, file, _, _ := runtime.Caller(0)
	if dir := filepath.Dir(filepath.Dir(filepath.Dir(file))); filepath.IsAbs(dir) && hasMagefile(dir) {
		return dir
	}
	return ""
}

// hasMagefile reports whether a directory has a magefile, or a directory magefiles.
func hasMagefile(dir string) bool {
	if st, err := os.Stat(filepath.Join(dir, "magefiles")); err == nil && st.IsDir() {
		return true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return true // mage says what is wrong
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") && tagged(filepath.Join(dir, e.Name())) {
			return true
		}
	}
	return false
}

// tagged reports whether a Go file has a build constraint with the word mage.
func tagged(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "//go:build ") && strings.Contains(line, "mage") {
			return true
		}
		if strings.HasPrefix(line, "package ") {
			return false
		}
	}
	return false
}

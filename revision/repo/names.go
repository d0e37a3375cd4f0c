package repo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/pantavisor/pantavisor/revision/state"
)

// errName is wrapped by the errors for names that a checkout on this machine cannot have.
var errName = errors.New("this machine cannot have the name")

// maxNameErrors is how many names are reported at once.
const maxNameErrors = 10

// checkNames returns an error when the files of a state cannot all be written to the
// checkout: names that Windows reserves, and names that are one to a file system that
// ignores case or the form of accented letters.
func (r *Repo) checkNames(st *state.State) error {
	var errs []error
	report := func(err error) bool {
		errs = append(errs, err)
		return len(errs) < maxNameErrors
	}
	if runtime.GOOS == "windows" {
		for _, key := range st.Keys() {
			if why := windowsDefect(key); why != "" && !report(fmt.Errorf("%w %q: %s", errName, key, why)) {
				break
			}
		}
	}
	if r.foldsNames() {
		eachCollision(st.Keys(), func(a, b string) bool {
			return report(fmt.Errorf("%w %q: its file system takes it for %q; check out on one that does not, or rename one", errName, b, a))
		})
	}
	return errors.Join(errs...)
}

// foldsNames reports whether the file system of the checkout takes names that differ in
// case for one.
func (r *Repo) foldsNames() bool {
	lower, errLower := os.Stat(r.dot())
	upper, errUpper := os.Stat(filepath.Join(r.dir, strings.ToUpper(Dir)))
	return errLower == nil && errUpper == nil && os.SameFile(lower, upper)
}

// eachCollision calls do with the pairs of names, of files and directories, that differ
// only in case or in the form of accented letters, once each, until it returns false.
func eachCollision(keys []string, do func(a, b string) bool) {
	c := collisions{first: map[string]string{}, told: map[string]bool{}, do: do}
	for _, key := range keys {
		if !c.add(key) {
			return
		}
	}
}

type collisions struct {
	first map[string]string // the first name of each folded one
	told  map[string]bool
	do    func(a, b string) bool
}

// add takes a key with the directories that it is in, and reports whether to go on.
func (c *collisions) add(key string) bool {
	for end := range len(key) + 1 {
		if end < len(key) && key[end] != '/' {
			continue
		}
		name := key[:end]
		folded := fold(name)
		switch first, known := c.first[folded]; {
		case !known:
			c.first[folded] = name
		case first != name: // and what is below collides for the same reason
			again := c.told[name]
			c.told[name] = true
			return again || c.do(first, name)
		}
	}
	return true
}

// fold returns the form that all names have in common which are one to a file system that
// ignores case.
func fold(name string) string { return strings.ToLower(strings.ToUpper(norm.NFC.String(name))) }

// windowsDefect returns why Windows cannot have a file of this name, else "" (Naming Files,
// Paths, and Namespaces, in the documentation of Win32).
func windowsDefect(key string) string {
	for element := range strings.SplitSeq(key, "/") {
		switch stem, _, _ := strings.Cut(element, "."); {
		case strings.ContainsAny(element, `<>:"\|?*`):
			return `Windows allows none of < > : " \ | ? * in it`
		case strings.ContainsFunc(element, func(c rune) bool { return c < ' ' }):
			return "Windows allows no control characters in it"
		case strings.HasSuffix(element, "."), strings.HasSuffix(element, " "):
			return "Windows drops a dot or blank at the end"
		case isDevice(strings.ToUpper(strings.TrimRight(stem, " "))):
			return "Windows reserves " + stem + " for a device"
		}
	}
	return ""
}

// isDevice reports whether a name without extension, in upper case, is that of a device
// of Windows.
func isDevice(stem string) bool {
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	number, ok := strings.CutPrefix(stem, "COM")
	if !ok {
		number, ok = strings.CutPrefix(stem, "LPT")
	}
	return ok && len([]rune(number)) == 1 && strings.Contains("0123456789¹²³", number)
}

package state

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// SpecKey is the one key that is not a path: the version of the state format.
const SpecKey = "#spec"

// Versions of the state format (manual: Pantavisor State Format).
const (
	Spec       = "pantavisor-service-system@1"
	LegacySpec = "pantavisor-multi-platform@1"
)

// Bounds of a key and of one path element, in bytes. They leave room for the storage
// path before it within the kernel's PATH_MAX and NAME_MAX.
const (
	MaxKey     = 2048
	MaxElement = 255
)

// ErrKey is wrapped by the errors about keys that must not become paths.
var ErrKey = errors.New("unusable key")

// CheckKey validates a state key: "#spec" or a clean relative path below the
// checkout outside the bookkeeping directories .pvr and .pv. Every key of a [State]
// has passed it, so it can be joined to a directory without another check.
func CheckKey(key string) error {
	if why := keyDefect(key); why != "" {
		return fmt.Errorf("%w %.120q: %s", ErrKey, key, why)
	}
	return nil
}

func keyDefect(key string) string {
	switch {
	case key == "":
		return "empty"
	case len(key) > MaxKey:
		return fmt.Sprintf("longer than %d bytes", MaxKey)
	case strings.ContainsRune(key, 0):
		return "contains NUL"
	case !utf8.ValidString(key):
		return "is not valid UTF-8, which a state's JSON needs; rename the file"
	}
	elems := strings.Split(key, "/")
	for _, e := range elems {
		if why := elementDefect(e); why != "" {
			return why
		}
	}
	switch {
	case elems[0] == ".pvr" || elems[0] == ".pv":
		return elems[0] + " is the bookkeeping directory of a checkout"
	case elems[0] == SpecKey && len(elems) > 1:
		return SpecKey + " is not a directory"
	}
	return ""
}

func elementDefect(e string) string {
	switch {
	case e == "":
		return "empty path element (absolute path, double or trailing slash)"
	case e == "." || e == "..":
		return "path element " + e
	case len(e) > MaxElement:
		return fmt.Sprintf("path element longer than %d bytes", MaxElement)
	}
	return ""
}

// IsSum reports whether s is an object's name: 64 lower-case hexadecimal digits.
func IsSum(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// IsInline reports whether a file of this name is kept as a JSON value inside the
// state (its name ends in ".json") and not as an object.
func IsInline(key string) bool { return strings.HasSuffix(key, ".json") }

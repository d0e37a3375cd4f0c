package modules

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// match returns the modules that claim one of the modaliases, in the order of
// modules.alias, each once. A directory without aliases claims nothing.
func match(dir string, modaliases []string) ([]string, error) {
	byBus := map[string][]string{}
	for _, m := range modaliases {
		byBus[bus(m)] = append(byBus[bus(m)], m)
	}
	var out []string
	err := eachLine(filepath.Join(dir, "modules.alias"), func(line []byte) {
		if m, ok := claims(line, byBus); ok && !slices.Contains(out, m) {
			out = append(out, m)
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return out, err
}

// bus is what stands before the first colon: pci, usb, of, acpi, platform. In
// patterns a star may end it ("acpi*:", "dmi*:"); none begins with a wild card.
func bus(alias string) string {
	b, _, _ := strings.Cut(alias, ":")
	return b
}

// claims tells which module a line "alias PATTERN MODULE" gives to one of the
// modaliases. It runs for each of some 20 000 lines at boot, hence on bytes.
func claims(line []byte, byBus map[string][]string) (module string, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte("alias "))
	if !found {
		return "", false
	}
	colon := bytes.IndexByte(rest, ':')
	if colon < 0 {
		return "", false
	}
	candidates := byBus[string(bytes.TrimRight(rest[:colon], "*"))] // does not allocate
	if candidates == nil {
		return "", false
	}
	end := bytes.LastIndexByte(bytes.TrimRight(rest, " \r\n"), ' ')
	if end < 0 {
		return "", false
	}
	pattern := bytes.TrimRight(rest[:end], " ")
	for _, c := range candidates {
		if glob(pattern, c) {
			return name(strings.TrimSpace(string(rest[end:]))), true
		}
	}
	return "", false
}

// glob matches as fnmatch(3) without flags does: '*', '?', '[...]' with ranges and
// '!', and '\' before a character that is meant as such. '-' and '_' are one character,
// as for modprobe: device trees write '-' where an index may have '_'. It takes time in
// proportion to pattern times text at most: only the last star is gone back to.
func glob(pattern []byte, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if n, ok := one(pattern[p:], s[i]); ok {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// one matches one character and returns how much of the pattern that took.
func one(pattern []byte, c byte) (n int, ok bool) {
	if len(pattern) == 0 {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, same(pattern[1], c)
		}
	case '[':
		if n, ok, closed := class(pattern, c); closed {
			return n, ok
		}
	}
	return 1, same(pattern[0], c)
}

// same compares characters of names of modules and devices.
func same(a, b byte) bool {
	return a == b || a == '-' && b == '_' || a == '_' && b == '-'
}

// class matches "[a-f0]" or "[!x]"; closed is false when no ']' ends it.
func class(pattern []byte, c byte) (n int, ok, closed bool) {
	end := bytes.IndexByte(pattern[1:], ']') + 1
	if end < 2 { // none, or empty, which is not a class either
		return 0, false, false
	}
	set := pattern[1:end]
	negate := set[0] == '!' || set[0] == '^'
	if negate {
		set = set[1:]
	}
	in := false
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			in = in || set[i] <= c && c <= set[i+2]
			i += 2
			continue
		}
		in = in || set[i] == c
	}
	return end + 1, in != negate, true
}

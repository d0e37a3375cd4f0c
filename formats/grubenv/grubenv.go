// Package grubenv reads and writes GRUB's environment block: a file of exactly 1024 bytes
// that GRUB's load_env and save_env use. It begins with a header line, then has lines
// NAME=VALUE, and is padded with '#' (GRUB manual, "The GRUB environment block";
// grub-core/lib/envblk.c). In values a backslash escapes a backslash or newline.
//
// The boot handshake keeps pv_rev and pv_try in such a block on the storage, written by
// the runtime, and pv_trying in one on the boot partition, written by GRUB. GRUB
// overwrites a block in place and never resizes it, so it cannot use a block of any other
// size.
package grubenv

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Size is the size of a block in bytes.
const Size = 1024

// maxRead bounds what Parse reads: faulty writers have left larger files.
const maxRead = 64 << 10

const header = "# GRUB Environment Block\n"

var (
	// errFormat: the bytes do not begin with GRUB's header line.
	errFormat = errors.New("not a GRUB environment block")
	// errName: a name is empty or has characters that GRUB's variables cannot have.
	errName = errors.New("bad variable name")
	// errFull: the variables do not fit into 1024 bytes.
	errFull = errors.New("the environment block is full")
)

// Env holds the variables of a block.
type Env map[string]string

// Parse reads a block. A file whose size is not 1024 is read as far as possible: its
// values are the best available. When a name occurs twice, the first one counts, as in
// GRUB. Lines without '=' are skipped.
func Parse(block []byte) (Env, error) {
	text := string(block[:min(len(block), maxRead)])
	rest, ok := strings.CutPrefix(text, header)
	if !ok {
		return nil, errFormat
	}
	env := Env{}
	for rest != "" {
		var line string
		line, rest = cutLine(rest)
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if _, twice := env[name]; ok && !twice && validName(name) {
			env[name] = unescape(value)
		}
	}
	return env, nil
}

// cutLine ends a line at the first newline that is not escaped.
func cutLine(s string) (line, rest string) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\n':
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func escape(s string) string { return strings.NewReplacer(`\`, `\\`, "\n", "\\\n").Replace(s) }

// Bytes returns the block: always 1024 bytes, variables sorted by name.
func (e Env) Bytes() ([]byte, error) {
	names := make([]string, 0, len(e))
	for name := range e {
		if !validName(name) {
			return nil, fmt.Errorf("writing variable %q: %w", name, errName)
		}
		names = append(names, name)
	}
	sort.Strings(names)
	block := make([]byte, 0, Size)
	block = append(block, header...)
	for _, name := range names {
		block = append(block, name+"="+escape(e[name])+"\n"...)
	}
	if len(block) > Size {
		return nil, fmt.Errorf("writing %d bytes of variables: %w", len(block), errFull)
	}
	for len(block) < Size {
		block = append(block, '#')
	}
	return block, nil
}

// validName reports whether s is a name in GRUB's script language.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Package lxc writes and reads the values of a container's configuration
// (lxc.container.conf(5)) that need quotes or escapes. The host's tool writes them and
// the device's launcher reads them.
package lxc

import (
	"errors"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/octal"
)

// Keys of our own for values that LXC's form cannot hold, such as line breaks. The value
// is JSON: an array of strings for the command, else a string. A runtime that does not
// know them does not start the container with another value instead.
const (
	KeyCommand     = "pv.init.cmd"
	KeyDirectory   = "pv.init.cwd"
	KeyEnvironment = "pv.environment"
)

// Split splits the value of lxc.init.cmd as LXC does, which is not as a shell would: a
// quote counts only where a word begins, the closing quote ends the word even without a
// blank after it ("c1""c 2" are two words), and there are no escapes.
//
// Earlier tools put words in double quotes whatever they held. When LXC's rules leave a
// double quote within a word, such a line is read as it was meant: a closing quote is
// followed by another opening one or by the end.
func Split(s string) ([]string, error) {
	words, clean, err := split(s, false)
	if clean && err == nil {
		return words, nil
	}
	if meant, clean, err := split(s, true); clean && err == nil {
		return meant, nil
	}
	return words, err
}

// split returns the words; clean is false when one without quotes around it holds a
// double quote. With inner, a double quote ends a word only before another one or the
// end.
func split(s string, inner bool) (words []string, clean bool, err error) {
	clean = true
	for rest := strings.TrimLeft(s, Blanks); rest != ""; rest = strings.TrimLeft(rest, Blanks) {
		var word string
		switch quote := rest[0]; {
		case quote != '"' && quote != '\'':
			end := strings.IndexAny(rest, Blanks)
			if end < 0 {
				end = len(rest)
			}
			word, rest = rest[:end], rest[end:]
			clean = clean && strings.IndexByte(word, '"') < 0
		default:
			end := closing(rest[1:], quote, inner)
			if end < 0 {
				return nil, false, errors.New("missing closing quote")
			}
			word, rest = rest[1:1+end], rest[end+2:]
		}
		words = append(words, word)
	}
	return words, clean, nil
}

// Blanks are the characters around a value that are not part of it.
const Blanks = " \t\n\v\f\r"

// closing returns where the closing quote of a word is, -1 without one.
func closing(s string, quote byte, inner bool) int {
	for i := 0; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		after := strings.TrimLeft(s[i+1:], Blanks)
		if !inner || quote != '"' || after == "" || after[0] == '"' {
			return i
		}
	}
	return -1
}

// Join writes the words of an entry point and of a command for lxc.init.cmd: the first
// word is bare, the others are in quotes, and no blank is between the words of a command
// after an entry point. It returns false when no line is read as these words.
func Join(entry, command []string) (string, bool) {
	words := slices.Concat(entry, command)
	for _, how := range []struct{ single, inner bool }{{false, false}, {true, false}, {false, true}} {
		line := join(entry, command, how.single)
		got, clean, err := split(line, how.inner)
		read, rerr := Split(line)
		if err == nil && clean && rerr == nil && slices.Equal(got, words) && slices.Equal(read, words) && Holds(line) {
			return line, true
		}
	}
	return join(entry, command, false), false
}

// join writes the words; with single, single quotes go around those with a double quote.
func join(entry, command []string, single bool) string {
	quoted := func(w string) string {
		if single && strings.Contains(w, `"`) {
			return "'" + w + "'"
		}
		return `"` + w + `"`
	}
	var line strings.Builder
	for i, w := range slices.Concat(entry, command) {
		switch {
		case i == 0:
			line.WriteString(w)
			continue
		case i <= len(entry) || len(entry) == 0:
			line.WriteByte(' ')
		}
		line.WriteString(quoted(w))
	}
	return line.String()
}

// Holds reports whether a line of a configuration can hold a value: without line breaks,
// and without blanks around it, which are not part of a value.
func Holds(value string) bool {
	return strings.Trim(value, Blanks) == value && !strings.ContainsAny(value, "\n\r\x00")
}

// Escape writes a field of lxc.mount.entry exactly.
func Escape(s string) string { return octal.Escape(s, Blanks+`\#`) }

// EscapeBlanks writes a field of lxc.mount.entry whose author may have used escapes
// already.
func EscapeBlanks(s string) string { return octal.Escape(s, Blanks) }

package container

import "errors"

// splitCommand splits the value of lxc.init.cmd as LXC does, which is not as a
// shell would: a quote counts only where a word begins, its partner ends the word
// even without a blank after it ("c1""c 2" are two words), and nothing escapes.
// Exports rely on that: their words are quoted by a client that knows these rules.
func splitCommand(s string) ([]string, error) {
	var words []string
	for i := 0; i < len(s); {
		c := s[i]
		if isBlank(c) {
			i++
			continue
		}
		start, end := i, 0
		if c == '"' || c == '\'' {
			start = i + 1
			for end = start; end < len(s) && s[end] != c; end++ {
			}
			if end == len(s) {
				return nil, errors.New("a quote that is not closed")
			}
			i = end + 1
		} else {
			for end = i; end < len(s) && !isBlank(s[end]); end++ {
			}
			i = end
		}
		words = append(words, s[start:end])
	}
	return words, nil
}

func isBlank(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r'
}

// A word is one of those that a configuration may have in a place. Lists of them are
// data of the program, where maps would be made anew by every process that runs it.
type word[T any] struct {
	name  string
	value T
}

func find[T any](list []word[T], name string) (value T, ok bool) {
	for i := range list {
		if list[i].name == name {
			return list[i].value, true
		}
	}
	return value, false
}

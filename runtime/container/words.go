package container

import "errors"

// splitCommand splits the value of lxc.init.cmd as LXC does, which is not as a
// shell would: a quote counts only where a word begins, the closing quote ends the word
// even without a blank after it ("c1""c 2" are two words), and there are no escapes.
// The clients that write these configurations quote by the same rules.
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
				return nil, errors.New("missing closing quote")
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

// A word is a keyword of a configuration with its value. Lists of words are static data
// of the program; maps would be built at the start of every process.
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

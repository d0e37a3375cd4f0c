package container

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

package config

import "strconv"

// Item is one line of a list of the configuration.
type Item struct {
	Key     Key
	Name    string // PV_ or PH_ name, or the sysctl's
	Alias   string // name of the deprecated syntax, "" if it has none
	Value   string // text; secrets are masked
	Set     bool   // false for a text that has no value
	Numeric bool   // GET /config shows a number: Number
	Flag    bool   // GET /config shows true or false
	Number  int
	From    Level
	Note    string // [noEffect] for an inert key
}

const mask = "********"

// updateOutput is the bit of the log output that writes an update's errors into
// its revision; it is always on and has no name.
const updateOutput = 128

// shown is a value's text as people may see it.
func shown(v value, s *spec) string {
	if s.secret && v.text != "" {
		return mask
	}
	if v.text == "" {
		return "unset"
	}
	return v.text
}

// Items lists every key with its value and where that came from.
func (c *Config) Items() []Item {
	out := make([]Item, 0, int(keys))
	for k := Key(0); k < keys; k++ {
		s, v := &table[k], c.get(k)
		it := Item{Key: k, Name: s.name, Value: v.text, Set: v.text != "", Number: v.num, From: v.from, Note: k.remark()}
		if it.Set {
			it.Value = shown(v, s)
		}
		if k == LogServerOutputs { // lists show the bits
			it.Number |= updateOutput
			it.Value = strconv.Itoa(it.Number)
		}
		if len(s.aliases) > 0 {
			it.Alias = s.aliases[0]
		}
		it.Flag = s.kind == flag
		it.Numeric = s.kind != flag && s.kind != text
		out = append(out, it)
	}
	return out
}

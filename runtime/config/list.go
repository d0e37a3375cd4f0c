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
}

const mask = "********"

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
		it := Item{Key: k, Name: s.name, Value: v.text, Set: v.text != "", Number: v.num, From: v.from}
		if it.Set {
			it.Value = shown(v, s)
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

// updateOutput is the bit of the log output that writes an update's errors into
// its revision; it is always on and has no name.
const updateOutput = 128

// AppendConfig appends the body of GET /config: an object of the keys that have
// a name in the deprecated syntax, enumerations and numbers as numbers.
func (c *Config) AppendConfig(b []byte) []byte {
	b = append(b, '{')
	first := true
	for _, it := range c.Items() {
		if it.Alias == "" {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, it.Alias), ':')
		b = appendTyped(b, it)
	}
	return append(b, '}')
}

func appendTyped(b []byte, it Item) []byte {
	switch {
	case it.Flag:
		return strconv.AppendBool(b, it.Number != 0)
	case it.Key == LogServerOutputs:
		return strconv.AppendInt(b, int64(it.Number|updateOutput), 10)
	case it.Numeric:
		return strconv.AppendInt(b, int64(it.Number), 10)
	case !it.Set:
		return append(b, "null"...)
	}
	return appendString(b, it.Value)
}

// AppendConfig2 appends the body of GET /config2: an array of objects with key,
// value and level ("modified").
func (c *Config) AppendConfig2(b []byte) []byte {
	b = append(b, '[')
	for i, it := range c.Items() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(append(b, `{"key":`...), it.Name), `,"value":`...)
		b = append(appendString(b, it.text2()), `,"modified":`...)
		b = append(appendString(b, it.From.String()), '}')
	}
	return append(b, ']')
}

// text2 is the value as GET /config2 writes it.
func (it Item) text2() string {
	switch {
	case it.Key == LogServerOutputs:
		return strconv.Itoa(it.Number | updateOutput)
	case !it.Set:
		return "(null)"
	}
	return it.Value
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string with the escapes that clients of the socket
// know: short forms where JSON has them, \u00xx for other control bytes, all
// else as it is.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		b = appendEscaped(b, s[i])
	}
	return append(b, '"')
}

func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	if c < 0x20 {
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
	return append(b, c)
}

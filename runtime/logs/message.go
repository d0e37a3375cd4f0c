package logs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Message is one message from the pv-ctrl-log socket.
type Message struct {
	Platform string // of the binary form; used only when the peer is the runtime
	Source   string
	Level    Level
	Text     string
}

// fallbackSource names messages of containers that do not name their source.
const fallbackSource = "messages"

// The codes of the binary form, struct logserver_msg (manual: Pantavisor Log Sockets).
const (
	codeLegacy  = 0
	codeCommand = 256
	headBytes   = 8 // int32 code, int32 length, in the machine's byte order
)

// errCommand means that a peer sent an internal command of the log server, which takes
// none from a socket.
var errCommand = errors.New("commands to the log server are not accepted on the socket")

// maxMessage is the largest message in bytes; longer ones are cut.
const maxMessage = 128 << 10

// parseText reads the text forms: syslog as of RFC 5424 or RFC 3164, a JSON object
// of version "0", or level=... src=... message=... . Any other text is a message
// of level INFO.
func parseText(text string) Message {
	text = strings.TrimRight(text, "\x00\r\n")
	for _, parse := range []func(string) (Message, bool){parseSyslog, parseJSON, parsePairs} {
		if m, ok := parse(text); ok {
			if m.Source == "" {
				m.Source = fallbackSource
			}
			return m
		}
	}
	return Message{Source: fallbackSource, Level: Info, Text: text}
}

// severities maps severities of syslog to levels.
var severities = [8]Level{Fatal, Fatal, Error, Error, Warn, Info, Info, Debug}

func parseSyslog(text string) (Message, bool) {
	rest, ok := strings.CutPrefix(text, "<")
	if !ok {
		return Message{}, false
	}
	digits, rest, ok := strings.Cut(rest, ">")
	pri, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || pri > 191 || len(digits) > 3 {
		return Message{}, false
	}
	m := Message{Level: severities[pri&7], Text: rest}
	if body, ok := strings.CutPrefix(rest, "1 "); ok {
		// TIMESTAMP HOSTNAME APP-NAME and more, RFC 5424 §6.
		m.Text = body
		if f := strings.SplitN(body, " ", 4); len(f) == 4 && f[2] != "-" {
			m.Source = f[2]
		}
		return m, true
	}
	m.Source = bsdTag(rest)
	return m, true
}

// bsdTag returns the program of "Oct 11 22:14:15 host su[12]: text". The host may be
// missing, as C libraries send it to a local socket, and the time, too.
func bsdTag(text string) string {
	const stamp = len("Oct 11 22:14:15 ")
	if len(text) >= stamp && text[3] == ' ' && text[9] == ':' && text[12] == ':' && text[15] == ' ' {
		text = text[stamp:]
	}
	head, _, ok := strings.Cut(text, ":")
	if !ok {
		return ""
	}
	if i := strings.LastIndexByte(head, ' '); i >= 0 {
		head = head[i+1:]
	}
	tag, _, _ := strings.Cut(head, "[")
	return tag
}

func parseJSON(text string) (Message, bool) {
	if !strings.HasPrefix(text, "{") {
		return Message{}, false
	}
	var in struct {
		Version, Src, Message string
		Level                 json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &in); err != nil || in.Version != "0" {
		return Message{}, false
	}
	level, ok := parseLevel(strings.Trim(string(in.Level), `"`))
	if !ok {
		level = Info
	}
	return Message{Source: in.Src, Level: level, Text: in.Message}, true
}

// parsePairs reads key=value pairs in any order. A value in quotes may contain spaces
// and \"; a message without quotes extends to the end.
func parsePairs(text string) (Message, bool) {
	m, found := Message{Level: Info}, false
	for rest := text; rest != ""; {
		key, after, ok := strings.Cut(strings.TrimLeft(rest, " \t"), "=")
		if !ok || strings.ContainsAny(key, " \t\n\"") {
			break
		}
		var value string
		if value, rest, ok = cutValue(after, key == "message"); !ok {
			return Message{}, false
		}
		switch key {
		case "level":
			if level, ok := parseLevel(value); ok {
				m.Level = level
			}
		case "src":
			m.Source = value
		case "message":
			m.Text, found = value, true
		}
	}
	return m, found
}

func cutValue(s string, last bool) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		if last {
			return s, "", true
		}
		value, rest, _ = strings.Cut(s, " ")
		return value, rest, true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// parseLevel reads a level's name in any case, or its number.
func parseLevel(s string) (Level, bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return Level(n), n >= int(Fatal) && n <= int(All)
	}
	for i, name := range levelNames {
		if strings.EqualFold(s, name) {
			return Level(i), true
		}
	}
	return Info, false
}

// cutMessage cuts the first message off data. ok is false when the message is not whole;
// at the end of the stream any text is whole.
func cutMessage(data []byte, end bool) (m Message, rest []byte, ok bool, err error) {
	data = bytes.TrimLeft(data, "\r\n")
	switch {
	case len(data) == 0:
		return Message{}, nil, false, nil
	case data[0] == 0:
		return cutBinary(data)
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return parseText(string(data[:i])), data[i+1:], true, nil
	}
	if end || len(data) >= maxMessage {
		return parseText(string(data)), nil, true, nil
	}
	return Message{}, data, false, nil
}

// cutBinary reads the binary form. Every known code begins with a zero byte in either
// byte order, and no text does.
func cutBinary(data []byte) (Message, []byte, bool, error) {
	if len(data) < headBytes {
		return Message{}, data, false, nil
	}
	code := int32(binary.NativeEndian.Uint32(data))
	n := int64(int32(binary.NativeEndian.Uint32(data[4:])))
	switch {
	case n < 0 || n > maxMessage:
		return Message{}, nil, false, fmt.Errorf("reading a message of %d bytes: the limit is %d", n, maxMessage)
	case code == codeCommand:
		return Message{}, nil, false, errCommand
	case code != codeLegacy:
		return Message{}, nil, false, fmt.Errorf("reading a message: unknown code %d", code)
	case int64(len(data)) < headBytes+n:
		return Message{}, data, false, nil
	}
	m, err := parseLegacy(data[headBytes : headBytes+n])
	return m, data[headBytes+n:], err == nil, err
}

func parseLegacy(body []byte) (Message, error) {
	f := bytes.SplitN(body, []byte{0}, 4)
	if len(f) != 4 {
		return Message{}, errors.New("reading a message: expected the four fields level, platform, source, data")
	}
	level, ok := parseLevel(string(f[0]))
	if !ok {
		level = Info
	}
	m := Message{Platform: string(f[1]), Source: string(f[2]), Level: level, Text: strings.TrimRight(string(f[3]), "\x00\n")}
	if m.Source == "" {
		m.Source = fallbackSource
	}
	return m, nil
}

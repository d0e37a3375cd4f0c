package config

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// kind is how the text of a value is read.
type kind uint8

const (
	text     kind = iota // any text; empty means unset
	number               // whole number, decimal
	flag                 // true, yes, on, false, no, off in any case, or a number
	duration             // N, Ns, Nmin, Nh or Nd
	choice               // one of a list of words
	outputs              // comma list of log outputs
)

// value is a checked value: its text as lists show it and its number, which is
// 0 or 1 for a flag, seconds for a duration, the position for a choice, bits for
// outputs and 0 for text.
type value struct {
	text string
	num  int
	from Level
}

// parse reads raw as the key's kind.
func (s *spec) parse(raw string) (value, error) {
	switch s.kind {
	case number:
		return s.in.parse(raw)
	case flag:
		return parseFlag(raw)
	case duration:
		return parseDuration(raw)
	case choice:
		return parseChoice(raw, s.choices)
	case outputs:
		return parseOutputs(raw)
	default:
		if s.form != nil && raw != "" && !s.form.fits(raw) {
			return value{}, fmt.Errorf("%q is not a valid %s: write %s", raw, s.form.name, s.form.words)
		}
		return value{text: raw}, nil
	}
}

// form is what a text must look like.
type form struct {
	name, words string
	fits        func(raw string) bool
}

var size = form{"size", "bytes, a number with K, KB, M, MB, G, GB, T or TB, a percentage, or 0", func(raw string) bool {
	raw = strings.TrimSpace(raw)
	digits := strings.TrimRight(raw, "%BbKkMmGgTt")
	_, err := strconv.ParseUint(digits, 10, 63)
	return err == nil && slices.Contains([]string{"", "%", "B", "K", "KB", "M", "MB", "G", "GB", "T", "TB"}, strings.ToUpper(raw[len(digits):]))
}}

var timeFormat = form{"time format", "golang:Layout, RubyDate, ANSIC, RFC822Z or RFC1123Z, or strftime:FORMAT", func(raw string) bool {
	language, name, _ := strings.Cut(raw, ":")
	return language == "strftime" || language == "golang" && slices.Contains([]string{"Layout", "RubyDate", "ANSIC", "RFC822Z", "RFC1123Z"}, name)
}}

var tmpfsSize = form{"size of a tmpfs", "bytes, or a number with k, m, g or %", func(raw string) bool {
	digits := strings.TrimRight(raw, "kKmMgG%")
	n, err := strconv.ParseUint(digits, 10, 63)
	return err == nil && n > 0 && len(raw)-len(digits) <= 1
}}

var address4 = form{"IPv4 address", "four numbers with dots, such as 10.0.3.1", func(raw string) bool {
	a, err := netip.ParseAddr(raw)
	return err == nil && a.Is4()
}}

var netmask4 = form{"IPv4 netmask", "ones and then zeros, such as 255.255.255.0", func(raw string) bool {
	a, err := netip.ParseAddr(raw)
	if err != nil || !a.Is4() {
		return false
	}
	b := a.As4()
	zeros := ^binary.BigEndian.Uint32(b[:])
	return zeros&(zeros+1) == 0
}}

// interfaceName is what the kernel takes (dev_valid_name in net/core/dev.c).
var interfaceName = form{"name of a network interface", "1 to 15 characters without blank, slash and colon", func(raw string) bool {
	return len(raw) < 16 && raw != "." && raw != ".." && !strings.ContainsAny(raw, "/: \t\n\v\f\r\x00")
}}

// parse reads a whole number of the span.
func (in span) parse(raw string) (value, error) {
	n, err := strconv.ParseInt(raw, 10, 32)
	if err != nil || int(n) < in.least || int(n) > in.most {
		return value{}, fmt.Errorf("%q is not a whole number from %d to %d", raw, in.least, in.most)
	}
	return value{text: strconv.Itoa(int(n)), num: int(n)}, nil
}

// String returns the span as "LEAST to MOST", "LEAST or more" where only the size of a
// number is the bound.
func (in span) String() string {
	if in.most == math.MaxInt32 {
		return strconv.Itoa(in.least) + " or more"
	}
	return strconv.Itoa(in.least) + " to " + strconv.Itoa(in.most)
}

func parseFlag(raw string) (value, error) {
	switch strings.ToLower(raw) {
	case "true", "yes", "on":
		return value{text: "1", num: 1}, nil
	case "false", "no", "off":
		return value{text: "0"}, nil
	}
	n, err := strconv.ParseInt(raw, 10, 32)
	switch {
	case err != nil:
		return value{}, fmt.Errorf("%q is neither 0 nor 1", raw)
	case n == 0:
		return value{text: "0"}, nil
	}
	return value{text: "1", num: 1}, nil
}

var units = []struct {
	suffix  string
	seconds int64
}{{"min", 60}, {"s", 1}, {"h", 3600}, {"d", 86400}}

func parseDuration(raw string) (value, error) {
	digits, factor := raw, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(raw, u.suffix); ok {
			digits, factor = rest, u.seconds
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 || n > math.MaxInt32/factor {
		return value{}, fmt.Errorf("%q is not a duration like 30, 30s, 5min, 2h or 1d", raw)
	}
	n *= factor
	return value{text: strconv.FormatInt(n, 10), num: int(n)}, nil
}

func parseChoice(raw string, choices []string) (value, error) {
	for i, c := range choices {
		if raw == c {
			return value{text: c, num: i}, nil
		}
	}
	return value{}, fmt.Errorf("%q is none of %s", raw, strings.Join(choices, ", "))
}

func parseOutputs(raw string) (value, error) {
	bits := 0
	for _, word := range strings.Split(raw, ",") {
		if word == "" {
			continue
		}
		v, err := parseChoice(word, logOutputs)
		if err != nil {
			return value{}, err
		}
		bits |= 1 << v.num
	}
	if bits == 0 {
		return value{}, fmt.Errorf("%q names no output", raw)
	}
	return value{text: raw, num: bits}, nil
}

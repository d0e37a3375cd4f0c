package logs

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// layout returns a format of the manual's table of time stamps, "" for other names.
func layout(name string) string {
	switch name {
	case "Layout":
		return "01/02 03:04:05PM '06 -0700"
	case "RubyDate":
		return time.RubyDate
	case "ANSIC":
		return time.ANSIC
	case "RFC822Z":
		return time.RFC822Z
	case "RFC1123Z":
		return time.RFC1123Z
	}
	return ""
}

// stamper writes the time of a message in a configured format; nil writes none.
type stamper func(t time.Time) string

// newStamper reads "golang:NAME" or "strftime:FORMAT"; "" is no time stamp.
func newStamper(format string) (stamper, error) {
	kind, rest, _ := strings.Cut(format, ":")
	switch {
	case format == "":
		return nil, nil
	case kind == "strftime":
		return func(t time.Time) string { return strftime(rest, t) }, nil
	case kind == "golang" && layout(rest) != "":
		layout := layout(rest)
		return func(t time.Time) string { return t.Format(layout) }, nil
	}
	return nil, fmt.Errorf("reading the time stamp format %q: use golang:Layout, RubyDate, ANSIC, RFC822Z or RFC1123Z, or strftime:FORMAT", format)
}

// conversions are the conversions of strftime(3) that are a layout of package time.
var conversions = [...]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006",
	'd': "02", 'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'H': "15", 'I': "03", 'm': "01", 'M': "04",
	'p': "PM", 'P': "pm", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05", 'x': "01/02/06",
	'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

func conversion(c byte) string {
	if int(c) < len(conversions) {
		return conversions[c]
	}
	return ""
}

// strftime writes t as strftime(3) does in the C locale. An unknown conversion
// stays as it is.
func strftime(format string, t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		if (format[i] == 'E' || format[i] == 'O') && i+1 < len(format) {
			i++ // in the C locale alternative forms equal the plain ones
		}
		if layout := conversion(format[i]); layout != "" {
			b.WriteString(t.Format(layout))
		} else {
			b.WriteString(computed(format[i], t))
		}
	}
	return b.String()
}

func computed(c byte, t time.Time) string {
	year, week := t.ISOWeek()
	switch c {
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100)
	case 'g':
		return fmt.Sprintf("%02d", year%100)
	case 'G':
		return strconv.Itoa(year)
	case 'j':
		return fmt.Sprintf("%03d", t.YearDay())
	case 'k':
		return fmt.Sprintf("%2d", t.Hour())
	case 'l':
		return fmt.Sprintf("%2d", (t.Hour()+11)%12+1)
	case 'n':
		return "\n"
	case 's':
		return strconv.FormatInt(t.Unix(), 10)
	case 't':
		return "\t"
	case 'u':
		return strconv.Itoa((int(t.Weekday())+6)%7 + 1)
	case 'U':
		return fmt.Sprintf("%02d", (t.YearDay()+6-int(t.Weekday()))/7)
	case 'V':
		return fmt.Sprintf("%02d", week)
	case 'w':
		return strconv.Itoa(int(t.Weekday()))
	case 'W':
		return fmt.Sprintf("%02d", (t.YearDay()+6-(int(t.Weekday())+6)%7)/7)
	case '%':
		return "%"
	}
	return "%" + string(c)
}

// sinceBoot returns the monotonic clock, which relative time stamps use.
func sinceBoot() (sec, nsec int64) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, 0
	}
	return ts.Unix()
}

package sbom

import (
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// dayForm is the form of days, as in Support.End.
const dayForm = time.DateOnly

// Ends returns the first moment that is no longer supported; ok is false when no end is stated, or
// not as a day.
func (s Support) Ends() (t time.Time, ok bool) {
	day, err := time.Parse(dayForm, s.End)
	return day.AddDate(0, 0, 1), err == nil
}

// Mistakes returns what is wrong with each field, by its name in JSON. Fields may be empty.
func (s Support) Mistakes() map[string]string {
	out := map[string]string{}
	if _, ok := s.Ends(); s.End != "" && !ok {
		out["end"] = "is not a day: want 2031-12-31 for example"
	}
	if s.Contact != "" && !isContact(s.Contact) {
		out["contact"] = "is neither a mail address nor an https URL: want security@example.com or https://example.com/security for example"
	}
	if strings.ContainsFunc(s.Manufacturer, func(r rune) bool { return !unicode.IsPrint(r) }) || len(s.Manufacturer) > maxName {
		out["manufacturer"] = "is not a name: want one line of printable characters, up to 200 bytes"
	}
	return out
}

// Bounds of the texts of Support, in bytes.
const (
	maxName    = 200
	maxContact = 2000
)

// isContact reports whether a text is a mail address without a name, or the URL of a page.
func isContact(text string) bool {
	if len(text) > maxContact || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) {
		return false
	}
	if u, err := url.Parse(text); err == nil && u.Scheme == "https" {
		return u.Hostname() != "" && u.User == nil
	}
	a, err := mail.ParseAddress(text)
	return err == nil && a.Name == "" && a.Address == text && strings.Contains(text[strings.LastIndexByte(text, '@'):], ".")
}

package state

import (
	"encoding/base64"
	"iter"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
)

// SignatureSpec is the "#spec" of a signature document (manual: _sigs/container.json).
const SignatureSpec = "pvs@2"

// IsSignature reports whether a value is a signature document.
func IsSignature(v canon.Value) bool {
	spec, _ := v.Get(SpecKey)
	text, _ := spec.Text()
	return text == SignatureSpec
}

// Rule is what a signature covers: patterns over state keys.
type Rule struct {
	Include []string // signed
	Exclude []string // known to the signer, but not signed
}

// ReadRule returns the rule in the protected header of a signature document; it
// does not verify anything. It returns false when the document has no readable rule.
func ReadRule(v canon.Value) (Rule, bool) {
	if !IsSignature(v) {
		return Rule{}, false
	}
	protected, _ := v.Get("protected")
	text, _ := protected.Text()
	header, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return Rule{}, false
	}
	doc, err := canon.Parse(header)
	if err != nil {
		return Rule{}, false
	}
	rule, ok := doc.Get("pvs")
	return Rule{strs(rule, "include"), strs(rule, "exclude")}, ok
}

func strs(v canon.Value, member string) []string {
	list, _ := v.Get(member)
	var out []string
	for _, e := range list.Elems() {
		if text, ok := e.Text(); ok {
			out = append(out, text)
		}
	}
	return out
}

// prefixes returns each pattern up to its first wildcard.
func (r Rule) prefixes() []string {
	var out []string
	for _, p := range append(append([]string(nil), r.Include...), r.Exclude...) {
		before, _, _ := strings.Cut(p, "*")
		out = append(out, before)
	}
	return out
}

func countPrefixes(prefixes []string, key string) int {
	n := 0
	for _, p := range prefixes {
		if strings.HasPrefix(key, p) {
			n++
		}
	}
	return n
}

// Package editing: a device's transactions (manual: pvtx) add packages to a state and
// remove them. A package is identified by its signature: it consists of the part and
// of all keys that the part's signature names, except those that another signature
// names, too.

// RemovePackage returns the state without a package, named by its part, its
// signature or its configuration: app, _sigs/app.json and _config/app name the
// same package. Where another signature than the part's own covers _config/app, that
// name stands for the package of this signature. "#spec" stays.
func RemovePackage(s *State, part string) *State {
	gone := newCoverage(s).owned(part)
	return s.filter(func(key string) bool { return !gone[key] })
}

// AddPackage returns the state with a package added: it removes the packages that the
// incoming keys replace, as [RemovePackage] does, and then sets the incoming values.
// The state keeps its "#spec"; without one it becomes [Spec].
func AddPackage(s, add *State) (*State, error) {
	cover := newCoverage(s)
	gone := map[string]bool{}
	for _, e := range add.entries {
		for key := range cover.owned(e.key) {
			gone[key] = true
		}
	}
	out, err := s.filter(func(key string) bool { return !gone[key] }).With(add.Without(SpecKey))
	if err != nil {
		return nil, err
	}
	if out.Spec() == "" {
		out.put(SpecKey, canon.Str(Spec))
	}
	return out, nil
}

// coverage holds the keys that the signatures of a state name.
type coverage struct {
	state  *State
	bySig  map[string][]string // key of the signature -> prefixes
	sigs   []string            // the keys of bySig, sorted
	counts []int               // of each entry: how many prefixes of all signatures match
}

func newCoverage(s *State) *coverage {
	c := &coverage{state: s, bySig: map[string][]string{}, counts: make([]int, len(s.entries))}
	var all []string
	for _, e := range s.entries {
		if !strings.HasPrefix(e.key, "_sigs/") {
			continue
		}
		if rule, ok := ReadRule(e.value); ok {
			c.bySig[e.key] = rule.prefixes()
			c.sigs = append(c.sigs, e.key)
			all = append(all, c.bySig[e.key]...)
		}
	}
	for i, e := range s.entries {
		c.counts[i] = countPrefixes(all, e.key)
	}
	return c
}

// owned returns the keys of a part's package.
func (c *coverage) owned(part string) map[string]bool {
	part = strings.TrimSuffix(part, "/")
	signed := c.bySig[c.signature(part)]
	gone := map[string]bool{}
	for i, e := range c.candidates(part, len(signed) > 0) {
		n := countPrefixes(signed, e.key)
		if Within(part, e.key) {
			n++
		}
		if e.key != SpecKey && n >= 1 && c.counts[i] <= n {
			gone[e.key] = true
		}
	}
	return gone
}

// candidates returns the entries, with their indices, that may belong to a part: all of
// them for a signed one, otherwise the part's own key and those below it. These follow the
// key without a gap but for keys such as "app.json" and "app-x" between "app" and "app/".
func (c *coverage) candidates(part string, signed bool) iter.Seq2[int, entry] {
	return func(yield func(int, entry) bool) {
		from, to := 0, len(c.state.entries)
		if !signed {
			if i, ok := c.state.find(part); ok && !yield(i, c.state.entries[i]) {
				return
			}
			from, to = c.state.search(part+"/"), c.state.search(part+"0") // '0' follows '/'
		}
		for i := from; i < to; i++ {
			if !yield(i, c.state.entries[i]) {
				return
			}
		}
	}
}

// signature returns the key of a part's signature, "" when it has none.
func (c *coverage) signature(part string) string {
	own := "_sigs/" + signatureName(part)
	name, config := strings.CutPrefix(part, "_config/")
	if !config || strings.Contains(name, "/") || c.covers(own, part) {
		return own
	}
	for _, sig := range c.sigs {
		if c.covers(sig, part) {
			return sig
		}
	}
	return own
}

// covers reports whether a signature names a key of a part.
func (c *coverage) covers(sig, part string) bool {
	for _, e := range c.candidates(part, false) {
		if countPrefixes(c.bySig[sig], e.key) > 0 {
			return true
		}
	}
	return false
}

// signatureName returns the file name of a part's signature.
func signatureName(part string) string {
	part = strings.TrimPrefix(part, "_config/")
	part = strings.TrimPrefix(part, "_sigs/")
	return strings.TrimSuffix(part, ".json") + ".json"
}

package manifest

import (
	"errors"
	"io/fs"
	"sort"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Parse validates a state. The error is a [Problems] with every violation and
// wraps state.ErrFormat.
func Parse(s *state.State, opt Options) (*System, error) {
	if opt.GoalsTimeout == 0 {
		opt.GoalsTimeout = 120 * time.Second
	}
	p := newParser(s)
	p.opt, p.sys.Spec = opt, s.Spec()
	p.spec()
	p.device()
	if !opt.AppEngine {
		p.bsp()
	}
	p.drivers()
	p.containers()
	p.others()
	p.assignGroups()
	p.checkDrivers()
	p.checkDisks()
	p.notePools()
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	p.sys.Notes = p.notes
	return p.sys, nil
}

// Outcome is how an update ends whose state cannot be used: the status and the message
// of its progress (manual: Updates). err is what reading the document or [Parse] said.
func Outcome(err error) (status, message string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "WONTGO", "State JSON not found"
	case errors.Is(err, state.ErrFormat):
		return "WONTGO", "State JSON has bad format"
	}
	return "WONTGO", "Internal error"
}

type parser struct {
	*reader
	state *state.State
	keys  []string // of the state, in byte order
	opt   Options
	sys   *System
}

// value returns a state key's value as a node; absent keys are not reported.
func (p *parser) value(key string) (node, bool) {
	v, ok := p.state.Value(key)
	return node{p.reader, key, "", v}, ok
}

func (p *parser) at(key string) node { return node{p.reader, key, "", canon.Value{}} }

func (p *parser) spec() {
	n := p.at(state.SpecKey)
	switch spec := p.sys.Spec; {
	case spec == state.Spec:
	case spec == state.LegacySpec && !p.opt.AppEngine:
		n.note("%s is legacy; %s replaces it", spec, state.Spec)
	case spec == "":
		n.fail("missing; %s is expected", state.Spec)
	default:
		n.fail("%.80q is not supported; %s is expected", spec, state.Spec)
	}
}

func newParser(s *state.State) *parser {
	return &parser{reader: &reader{}, state: s, keys: s.Keys(), sys: &System{named: map[string]bool{}}}
}

// others checks the keys that belong to no table of their own.
func (p *parser) others() {
	for _, key := range p.state.Inlines() {
		if !state.IsInline(key) {
			p.at(key).fail("the SHA-256 of an object is expected (64 lower-case hexadecimal digits); only names ending in .json hold JSON values")
		}
	}
}

// hasFile reports a file that the state should have.
func (p *parser) hasFile(n node, directory, name string) {
	key := directory + "/" + name
	if state.CheckKey(key) != nil {
		n.fail("%.120q is not a relative path below %s/", name, directory)
		return
	}
	if _, ok := p.state.Value(key); ok {
		p.sys.named[key] = true
		return
	}
	if strings.HasSuffix(name, ".data") && p.hasDirectory(key) {
		return
	}
	n.fail("%q is not in the state", key)
}

func (p *parser) hasDirectory(directory string) bool {
	keys := p.keys
	i := sort.SearchStrings(keys, directory+"/")
	return i < len(keys) && strings.HasPrefix(keys[i], directory+"/")
}

// artifact reads "file" or "handler:file" and checks that the file is there.
func (p *parser) artifact(n node, directory string) Artifact {
	text := n.str()
	if text == "" {
		if n.v.Kind() == canon.String {
			n.fail("empty; a file name is expected")
		}
		return Artifact{}
	}
	a := Artifact{File: text}
	if handler, file, ok := strings.Cut(text, ":"); ok {
		a = Artifact{handler, file}
		n.element(handler)
	}
	p.hasFile(n, directory, a.File)
	return a
}

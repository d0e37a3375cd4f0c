package manifest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Problem is one violation: where it is and what is allowed there.
type Problem struct {
	Key  string // state key
	Path string // inside its value, "" for the whole
	Text string
}

func (p Problem) Error() string { return place(p.Key, p.Path) + ": " + p.Text }

// Problems are all violations of one state, in the order in which it is read.
type Problems []Problem

func (ps Problems) Error() string {
	const most = 50
	lines := make([]string, 0, len(ps))
	for i, p := range ps {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(ps)-most))
			break
		}
		lines = append(lines, p.Error())
	}
	return state.ErrFormat.Error() + ": " + strings.Join(lines, "\n\t")
}

// Unwrap makes every Problems a state.ErrFormat.
func (Problems) Unwrap() error { return state.ErrFormat }

// reader collects problems and notes while the parts of a state are read.
type reader struct {
	problems Problems
	notes    []Note
}

// node is a value at a place of the state.
type node struct {
	r         *reader
	key, path string
	v         canon.Value
}

// Bounds of what a state can make its reader keep and compare. No device comes near
// them; a hostile state must not fill the memory of one with words about it.
const (
	mostSaid  = 1000 // problems, and notes
	mostItems = 4096 // elements of a list, members of an object, containers
	mostText  = 512  // bytes of a problem or a note
	mostName  = 256  // bytes of a name in a path
)

func (n node) fail(format string, args ...any) {
	if len(n.r.problems) < mostSaid {
		n.r.problems = append(n.r.problems, Problem{n.key, n.path, text(format, args)})
	}
}

func (n node) note(format string, args ...any) {
	if len(n.r.notes) < mostSaid {
		n.r.notes = append(n.r.notes, Note{n.key, n.path, text(format, args)})
	}
}

func text(format string, args []any) string {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = clip(s, mostText)
		}
	}
	return clip(fmt.Sprintf(format, args...), mostText)
}

// clip shortens a text, at the end of a character.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "..."
}

func (n node) wrong(want string) { n.fail("%s is expected, not a value of type %s", want, n.v.Kind()) }

func (n node) at(name string, v canon.Value) node {
	path := clip(name, mostName)
	if n.path != "" {
		path = n.path + "." + path
	}
	return node{n.r, n.key, path, v}
}

// object is a JSON object being read. Members that nobody asked for become notes.
type object struct {
	node
	asked map[string]bool
}

// object reads the node as an object; anything else is a problem.
func (n node) object() (*object, bool) {
	if n.v.Kind() != canon.Object {
		n.wrong("an object")
		return nil, false
	}
	return &object{n, map[string]bool{}}, true
}

// member returns a member that is there and not null.
func (o *object) member(name string) (node, bool) {
	o.asked[name] = true
	v, ok := o.v.Get(name)
	if !ok || v.IsNull() {
		return node{}, false
	}
	return o.at(name, v), true
}

// known marks members that have no effect here.
func (o *object) known(names ...string) {
	for _, n := range names {
		o.asked[n] = true
	}
}

// done notes the members that nobody asked for.
func (o *object) done() {
	for _, m := range o.v.Members() {
		if !o.asked[m.Name] {
			o.at(m.Name, m.Value).note("unknown, ignored")
		}
	}
}

func (o *object) str(name string) string {
	n, ok := o.member(name)
	if !ok {
		return ""
	}
	return n.str()
}

func (n node) str() string {
	text, ok := n.v.Text()
	if !ok {
		n.wrong("a string")
	}
	return text
}

// need reads a string that must not be missing or empty.
func (o *object) need(name string) string {
	n, ok := o.member(name)
	if !ok {
		o.at(name, canon.Value{}).fail("missing; a string is expected")
		return ""
	}
	text := n.str()
	if text == "" && n.v.Kind() == canon.String {
		n.fail("empty")
	}
	return text
}

// enum reads one of some words; the first is the default, also for "".
func (o *object) enum(name string, words ...string) string {
	n, ok := o.member(name)
	if !ok {
		return words[0]
	}
	text := n.str()
	for _, w := range words {
		if text == w && w != "" {
			return text
		}
	}
	if text != "" {
		n.fail("%.80q; allowed are %s", text, list(words))
	}
	return words[0]
}

func list(words []string) string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, ", ")
}

func (o *object) boolean(name string, def bool) bool {
	n, ok := o.member(name)
	if !ok {
		return def
	}
	b, ok := n.v.Bool()
	if !ok {
		n.wrong("true or false")
		return def
	}
	return b
}

// yes reads the words "yes" and "no".
func (o *object) yes(name string) bool { return o.enum(name, "no", "yes") == "yes" }

// number reads an integer between 0 and limit.
func (o *object) number(name string, limit int64) int64 {
	n, ok := o.member(name)
	if !ok {
		return 0
	}
	text, isNumber := n.v.Number()
	i, err := strconv.ParseInt(text, 10, 64)
	if !isNumber || err != nil || i < 0 || i > limit {
		n.fail("a whole number from 0 to %d is expected", limit)
		return 0
	}
	return i
}

// most bounds numbers of seconds and retries, so that durations cannot overflow.
const most = 1<<31 - 1

func (o *object) seconds(name string) time.Duration {
	return time.Duration(o.number(name, most)) * time.Second
}

// strings reads an array of strings.
func (o *object) strings(name string) []string {
	n, ok := o.member(name)
	if !ok {
		return nil
	}
	return n.strings()
}

func (n node) strings() []string {
	out := []string{}
	for _, e := range n.elems() {
		if text := e.str(); e.v.Kind() == canon.String {
			out = append(out, text)
		}
	}
	return out
}

// elems returns the elements of an array.
func (n node) elems() []node {
	if n.v.Kind() != canon.Array {
		n.wrong("an array")
		return nil
	}
	if len(n.v.Elems()) > mostItems {
		n.fail("%d elements; at most %d are allowed", len(n.v.Elems()), mostItems)
		return nil
	}
	out := make([]node, len(n.v.Elems()))
	for i, e := range n.v.Elems() {
		out[i] = node{n.r, n.key, fmt.Sprintf("%s[%d]", n.path, i), e}
	}
	return out
}

// members returns the members of an object, sorted, with their names.
func (n node) members() ([]string, []node) {
	if n.v.Kind() != canon.Object {
		n.wrong("an object")
		return nil, nil
	}
	if len(n.v.Members()) > mostItems {
		n.fail("%d members; at most %d are allowed", len(n.v.Members()), mostItems)
		return nil, nil
	}
	var names []string
	var nodes []node
	for _, m := range n.v.Members() {
		if !m.Value.IsNull() {
			names = append(names, m.Name)
			nodes = append(nodes, n.at(m.Name, m.Value))
		}
	}
	return names, nodes
}

// path checks that a text is a clean relative path.
func (n node) cleanPath(text string) {
	if err := state.CheckKey(strings.TrimSuffix(text, "/")); err != nil {
		n.fail("%v; a relative path without .. is expected", err)
	}
}

// element checks that a text can be one element of a path.
func (n node) element(text string) {
	if strings.Contains(text, "/") {
		n.fail("%.80q must not contain a slash", text)
		return
	}
	n.cleanPath(text)
}

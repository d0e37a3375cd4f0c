package spdx3

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// node is an element as it was read.
type node map[string]any

// graph are the elements of a document.
type graph struct {
	nodes map[string]node
	// order are their identifiers, as they stand in the document.
	order []string
	// inline counts the nodes without an identifier.
	inline int
}

// parse reads the elements one by one, so that not more than one is held in the form of the decoder.
func parse(data []byte) (*graph, error) {
	g := &graph{nodes: map[string]node{}}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, fmt.Errorf("it is not a JSON object")
	}
	single := node{}
	seen := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch key {
		case "@context":
			seen = true
			if err := checkContext(d); err != nil {
				return nil, err
			}
		case "@graph":
			if err := g.list(d); err != nil {
				return nil, err
			}
		default:
			var v any
			if err := d.Decode(&v); err != nil {
				return nil, err
			}
			single[fmt.Sprint(key)] = v
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if !seen {
		return nil, fmt.Errorf("it has no @context")
	}
	if len(g.order) == 0 && single["type"] != nil {
		_, err := g.add(single)
		return g, err
	}
	return g, nil
}

// checkContext reports whether the context is one of a version that is read here.
func checkContext(d *json.Decoder) error {
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	names, ok := v.([]any)
	if !ok {
		names = []any{v}
	}
	for _, name := range names {
		if s, ok := name.(string); ok && strings.HasPrefix(s, "https://spdx.org/rdf/3.0.") {
			return nil
		}
	}
	return fmt.Errorf("its @context is not that of SPDX 3.0: %.100v", v)
}

func (g *graph) list(d *json.Decoder) error {
	if t, err := d.Token(); err != nil {
		return err
	} else if t != json.Delim('[') {
		return fmt.Errorf("its @graph is not an array")
	}
	for d.More() {
		var n node
		if err := d.Decode(&n); err != nil {
			return fmt.Errorf("@graph: element %d: %w", len(g.order)+1, err)
		}
		if n == nil {
			continue
		}
		if _, err := g.add(n); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// add adds an element, and those that stand inside of it on their own, and returns its identifier.
func (g *graph) add(n node) (string, error) {
	id := n.text("spdxId")
	if id == "" {
		id = n.text("@id")
	}
	if id == "" {
		g.inline++
		id = fmt.Sprintf("_:inline%d", g.inline)
	}
	if g.nodes[id] != nil {
		return "", fmt.Errorf("element %q: is there twice", id)
	}
	g.nodes[id] = n
	g.order = append(g.order, id)
	for _, key := range slices.Sorted(maps.Keys(n)) {
		flat, err := g.flatten(n[key])
		if err != nil {
			return "", err
		}
		n[key] = flat
	}
	return id, nil
}

// flatten replaces elements in the value of a property by their identifiers.
func (g *graph) flatten(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		n := node(v)
		if n.text("spdxId") != "" || n.text("type") == "CreationInfo" || n.text("@id") != "" && n.text("type") != "" {
			return g.add(n)
		}
	case []any:
		for i := range v {
			flat, err := g.flatten(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = flat
		}
	}
	return v, nil
}

// text returns a property that is a string.
func (n node) text(key string) string {
	s, _ := n[key].(string)
	return s
}

// list returns the values of a property, which may stand alone.
func (n node) list(key string) []any {
	switch v := n[key].(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		return []any{v}
	}
}

// texts returns those values of a property that are strings: identifiers, as a rule.
func (n node) texts(key string) []string {
	var all []string
	for _, v := range n.list(key) {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// nodes returns those values of a property that are objects.
func (n node) objects(key string) []node {
	var all []node
	for _, v := range n.list(key) {
		if m, ok := v.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

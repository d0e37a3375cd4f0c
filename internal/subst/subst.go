// Package subst fills in texts in the language of text/template: fields of structs, if, else and
// range, nothing else. A program with text/template itself keeps all exported methods of all its
// types, because a template may name any: 2.7 MB of pvcompose.
package subst

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"text/template/parse"
)

// Text is a text to fill in.
type Text struct{ root *parse.ListNode }

// Must parses a text of the program itself; it panics if it is wrong.
func Must(name, text string) *Text {
	trees, err := parse.Parse(name, text, "", "")
	if err != nil {
		panic(err)
	}
	return &Text{trees[name].Root}
}

// Fill returns the text with the fields of data, a struct or a map[string]any.
func (t *Text) Fill(data any) (string, error) {
	f := &filling{top: reflect.ValueOf(data)}
	err := f.list(t.root, f.top)
	return f.out.String(), err
}

// filling is one run of a text.
type filling struct {
	out bytes.Buffer
	top reflect.Value // what $ is
}

func (f *filling) list(l *parse.ListNode, dot reflect.Value) error {
	if l == nil {
		return nil
	}
	for _, n := range l.Nodes {
		if err := f.node(n, dot); err != nil {
			return err
		}
	}
	return nil
}

func (f *filling) node(n parse.Node, dot reflect.Value) error {
	switch n := n.(type) {
	case *parse.TextNode:
		f.out.Write(n.Text)
		return nil
	case *parse.ActionNode:
		v, err := f.value(n.Pipe, dot)
		if err == nil {
			fmt.Fprint(&f.out, v.Interface())
		}
		return err
	case *parse.IfNode:
		v, err := f.value(n.Pipe, dot)
		if err != nil {
			return err
		}
		if truth(v) {
			return f.list(n.List, dot)
		}
		return f.list(n.ElseList, dot)
	case *parse.RangeNode:
		v, err := f.value(n.Pipe, dot)
		for i := 0; err == nil && i < v.Len(); i++ {
			err = f.list(n.List, v.Index(i))
		}
		return err
	}
	return fmt.Errorf("filling in %s: it is not supported", n)
}

// truth reports whether a value is not the zero value of its type, nor an empty list.
func truth(v reflect.Value) bool {
	if v.Kind() == reflect.Slice {
		return v.Len() > 0
	}
	return !v.IsZero()
}

// value returns the value of a pipeline, which is one field.
func (f *filling) value(p *parse.PipeNode, dot reflect.Value) (reflect.Value, error) {
	if len(p.Cmds) == 1 && len(p.Cmds[0].Args) == 1 && len(p.Decl) == 0 {
		switch arg := p.Cmds[0].Args[0].(type) {
		case *parse.DotNode:
			return dot, nil
		case *parse.FieldNode:
			return field(dot, arg.Ident)
		case *parse.VariableNode:
			if arg.Ident[0] == "$" {
				return field(f.top, arg.Ident[1:])
			}
		}
	}
	return dot, fmt.Errorf("filling in %s: want one field", p)
}

func field(v reflect.Value, names []string) (reflect.Value, error) {
	for _, name := range names {
		next := member(v, name)
		if !next.IsValid() {
			return v, fmt.Errorf("filling in .%s: there is no %s", strings.Join(names, "."), name)
		}
		v = next
	}
	return v, nil
}

// member returns a field of a struct or a value of a map; the zero Value when there is none.
func member(v reflect.Value, name string) reflect.Value {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		return v.FieldByName(name)
	case reflect.Map:
		if v = v.MapIndex(reflect.ValueOf(name)); v.Kind() == reflect.Interface {
			return v.Elem()
		}
		return v
	}
	return reflect.Value{}
}

package licence

import (
	"regexp"
	"strings"
)

// maxNesting is how deep parentheses of an expression may be nested.
const maxNesting = 50

// Normalise returns the expression in SPDX's syntax for one in another: with deprecated identifiers,
// operators in lower case, and as signs; with commas, which join the licences of parts and bind less than
// the operators do; with remarks in parentheses behind a name. It reports whether every name is one of
// SPDX's list, begins with LicenseRef- or is known to names, which may be nil.
func Normalise(text string, names func(string) (string, bool)) (string, bool) {
	if len(text) > 10_000 {
		return "", false
	}
	text = orLater.ReplaceAllString(text, "-or-later")
	p := &parser{names: names, rest: tokens.FindAllString(text, -1)}
	e, ok := p.list(0)
	return e, ok && len(p.rest) == 0
}

var (
	orLater = regexp.MustCompile(`(?i)[ -]+or[ -]+later\b`)
	// tokens are parentheses, operators that are signs, and words.
	tokens = regexp.MustCompile(`[(),;]|[|&]+|[^\s(),;|&]+`)
)

type parser struct {
	names func(string) (string, bool)
	rest  []string
}

// next returns the next token, and what it is: a word, or an operator or parenthesis in one spelling.
func (p *parser) next() (token, kind string) {
	if len(p.rest) == 0 {
		return "", "end"
	}
	token = p.rest[0]
	switch upper := strings.ToUpper(token); upper {
	case "AND", "OR", "WITH", "(", ")":
		return token, upper
	case "&", "&&":
		return token, "AND"
	case "|", "||":
		return token, "OR"
	case ",", ";":
		return token, ","
	}
	return token, "word"
}

// operands reads what an operator joins.
func (p *parser) operands(operator string, join func(...string) string, operand func() (string, bool)) (string, bool) {
	e, ok := operand()
	if !ok {
		return "", false
	}
	all := []string{e}
	for {
		if _, kind := p.next(); kind != operator {
			break
		}
		p.rest = p.rest[1:]
		if _, kind := p.next(); kind == "end" && operator == "," {
			break // a comma at the end
		}
		if e, ok = operand(); !ok {
			return "", false
		}
		all = append(all, e)
	}
	return join(all...), true
}

func (p *parser) list(depth int) (string, bool) {
	if depth > maxNesting {
		return "", false
	}
	and := func() (string, bool) {
		return p.operands("AND", And, func() (string, bool) { return p.term(depth) })
	}
	return p.operands(",", And, func() (string, bool) { return p.operands("OR", Or, and) })
}

// term reads an expression in parentheses, or a name with an exception and a remark.
func (p *parser) term(depth int) (string, bool) {
	_, kind := p.next()
	if kind == "(" {
		p.rest = p.rest[1:]
		e, ok := p.list(depth + 1)
		if _, kind := p.next(); !ok || kind != ")" {
			return "", false
		}
		p.rest = p.rest[1:]
		return e, true
	}
	e, ok := p.name(p.licence)
	if !ok {
		return "", false
	}
	if _, kind := p.next(); kind == "WITH" {
		p.rest = p.rest[1:]
		exception, ok := p.name(Exception)
		if !ok || strings.Contains(e, " ") {
			return "", false
		}
		e += " WITH " + exception
	}
	return e, p.remark()
}

// name reads words up to the next operator, which are one name.
func (p *parser) name(known func(string) (string, bool)) (string, bool) {
	var words []string
	for {
		token, kind := p.next()
		if kind != "word" {
			return known(strings.Join(words, " "))
		}
		words = append(words, token)
		p.rest = p.rest[1:]
	}
}

// licence returns the identifier of a name, which may be a choice: MIT/Apache-2.0.
func (p *parser) licence(name string) (string, bool) {
	if ref, ok := strings.CutPrefix(name, "LicenseRef-"); ok && ref != "" && !strings.Contains(ref, " ") {
		return name, true
	}
	if strings.HasPrefix(name, "DocumentRef-") && strings.Contains(name, ":LicenseRef-") && !strings.Contains(name, " ") {
		return name, true
	}
	if id, ok := ID(name); ok {
		return id, true
	}
	if p.names != nil && name != "" {
		if id, ok := p.names(name); ok {
			return id, true
		}
	}
	var choice []string
	for part := range strings.SplitSeq(name, "/") {
		id, ok := ID(strings.TrimSpace(part))
		if !ok {
			return "", false
		}
		choice = append(choice, id)
	}
	return Or(choice...), len(choice) > 1
}

// remark skips a remark in parentheses: which parts have the licence. One with the name of a licence is
// not a remark.
func (p *parser) remark() bool {
	if _, kind := p.next(); kind != "(" {
		return true
	}
	depth := 0
	for len(p.rest) > 0 {
		token, kind := p.next()
		p.rest = p.rest[1:]
		switch kind {
		case "(":
			depth++
		case ")":
			depth--
		case "word":
			if _, ok := p.licence(token); ok {
				return false
			}
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

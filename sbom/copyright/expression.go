package copyright

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/sbom/licence"
)

// expression returns the expression in SPDX's syntax for the first line of a field License. The form
// joins short names with "and" and "or", of which "and" binds more tightly; a comma in front of one
// makes it bind less tightly than all others; "with ... exception" belongs to the name before it.
// body is the text below the line.
func (r *reader) expression(synopsis, body string) string {
	p := parser{reader: r, body: body, words: words(synopsis)}
	if len(p.words) == 0 {
		return r.reference("", body)
	}
	out := p.list()
	if len(p.words) > 0 || p.wrong {
		// A closing parenthesis without its opening one, or nothing beside an operator.
		return r.reference(synopsis, body)
	}
	return out
}

// words splits a line at blanks, commas, bars and parentheses, which are words themselves. "and/or"
// is a choice.
func words(line string) []string {
	for _, sign := range []string{",", "(", ")", "|", ";"} {
		line = strings.ReplaceAll(line, sign, " "+sign+" ")
	}
	list := strings.Fields(line)
	for i, w := range list {
		switch strings.ToLower(w) {
		case "and/or", "or/and", "|":
			list[i] = "or"
		case "&":
			list[i] = "and"
		case ";":
			list[i] = ","
		}
	}
	return later(list)
}

// later joins "GPL v2 or later", of which the "or" is no choice.
func later(list []string) []string {
	var out []string
	for i := 0; i < len(list); i++ {
		if n := len(out); n > 0 && i+1 < len(list) && strings.EqualFold(list[i], "or") && isLater(list[i+1]) {
			out[n-1] += "+"
			i++
			continue
		}
		out = append(out, list[i])
	}
	return out
}

func isLater(word string) bool {
	return slices.Contains([]string{"later", "newer", "any-later"}, strings.ToLower(word))
}

// parser reads words from the left.
type parser struct {
	reader *reader
	body   string
	words  []string // those left
	depth  int
	wrong  bool
	// last is the operator that was read last in the current term of a list, "" before any.
	last string
}

// maxDepth bounds the parentheses in parentheses.
const maxDepth = 20

// next returns the next word in lower case, "" at the end.
func (p *parser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	return strings.ToLower(p.words[0])
}

// take takes the next word if it is the given one.
func (p *parser) take(word string) bool {
	if p.next() != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

// list reads terms with commas between them. A comma without a word means what the next comma means,
// and the last one what joins the names behind it: in "A, B or C" all are a choice. Without any word
// all licences hold.
func (p *parser) list() string {
	out := p.choice()
	var terms, operators []string
	for p.take(",") {
		operator := p.operator()
		if w := p.next(); w == "" || w == ")" {
			break // a comma at the end
		}
		p.last = ""
		terms = append(terms, p.choice())
		if operator == "" && p.next() != "," {
			operator = p.last
		}
		operators = append(operators, operator)
	}
	operator := ""
	for i := len(operators) - 1; i >= 0; i-- {
		operator = cmp.Or(operators[i], operator)
		operators[i] = operator
	}
	for i, t := range terms {
		if operators[i] == "or" {
			out = licence.Or(out, t)
		} else {
			out = licence.And(out, t)
		}
	}
	return out
}

// operator takes an operator, if there is one.
func (p *parser) operator() string {
	for _, o := range []string{"or", "and"} {
		if p.take(o) {
			return o
		}
	}
	return ""
}

// choice reads terms with "or" between them.
func (p *parser) choice() string {
	terms := []string{p.all()}
	for p.take("or") {
		terms = append(terms, p.all())
		p.last = "or"
	}
	return licence.Or(terms...)
}

// all reads names with "and" between them.
func (p *parser) all() string {
	terms := []string{p.one()}
	for p.take("and") {
		terms = append(terms, p.one())
		p.last = "and"
	}
	return licence.And(terms...)
}

// one reads a name with its exception, or an expression in parentheses.
func (p *parser) one() string {
	if p.take("(") {
		if p.depth++; p.depth > maxDepth {
			p.wrong, p.words = true, nil
			return ""
		}
		out := p.list()
		p.depth--
		if !p.take(")") {
			p.wrong = true
		}
		return out
	}
	var name []string
	for {
		switch w := p.next(); w {
		case "", "and", "or", ",", "(", ")":
			if len(name) == 0 {
				p.wrong = true
				return ""
			}
			return p.named(strings.Join(name, " "))
		}
		name, p.words = append(name, p.words[0]), p.words[1:]
	}
}

// named returns the expression of one name.
func (p *parser) named(name string) string {
	base, exception, with := cutWith(name)
	if !with {
		if id, ok := ShortName(name); ok {
			return id
		}
		return p.reader.reference(name, p.body)
	}
	id, ok := ShortName(base)
	if !ok || strings.Contains(id, " ") {
		return p.reader.reference(name, p.body)
	}
	for _, candidate := range exceptionNames(id, exception) {
		if e, ok := licence.Exception(candidate); ok {
			return id + " WITH " + e
		}
	}
	return p.reader.reference(name, p.body)
}

// cutWith splits a name at its exception: "GPL-2+ with OpenSSL exception", "GPL-2+-with-OpenSSL-exception".
func cutWith(name string) (base, exception string, ok bool) {
	lower := strings.ToLower(name)
	for _, with := range []string{" with ", "-with-", " w/ "} {
		if i := strings.Index(lower, with); i > 0 {
			return name[:i], name[i+len(with):], true
		}
	}
	if m := gnuWith.FindStringSubmatch(name); m != nil {
		return m[1], m[2], true
	}
	return name, "", false
}

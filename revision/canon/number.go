package canon

import (
	"fmt"
	"strconv"
	"strings"
)

// maxDigits bounds the digits of a number in canonical form, so that 1e999999999
// is refused instead of being written out.
const maxDigits = 4096

// number reads a number and puts it into canonical form.
func (p *parser) number() (Value, error) {
	neg := p.take('-')
	start := p.pos
	switch {
	case p.take('0'):
	case p.digits() > 0:
	default:
		return Value{}, p.bad("in numeric literal")
	}
	whole := string(p.in[start:p.pos])
	var frac string
	if p.take('.') {
		start = p.pos
		if p.digits() == 0 {
			return Value{}, p.bad("after decimal point in numeric literal")
		}
		frac = string(p.in[start:p.pos])
	}
	exp, err := p.exponent()
	if err != nil {
		return Value{}, err
	}
	text, err := decimal(neg, whole, frac, exp)
	return Value{kind: Number, text: text}, err
}

func (p *parser) take(c byte) bool {
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) digits() int {
	start := p.pos
	for p.pos < len(p.in) && isDigit(p.in[p.pos]) {
		p.pos++
	}
	return p.pos - start
}

func (p *parser) exponent() (int, error) {
	if !p.take('e') && !p.take('E') {
		return 0, nil
	}
	neg := p.take('-')
	if !neg {
		p.take('+')
	}
	start := p.pos
	if p.digits() == 0 {
		return 0, p.bad("in exponent of numeric literal")
	}
	digits := strings.TrimLeft(string(p.in[start:p.pos]), "0")
	if len(digits) > 8 {
		// Beyond any bound; decimal refuses it unless the number is zero.
		digits = "99999999"
	}
	exp, _ := strconv.Atoi("0" + digits)
	if neg {
		exp = -exp
	}
	return exp, nil
}

// decimal writes ±whole.frac × 10^exp canonically.
func decimal(neg bool, whole, frac string, exp int) (string, error) {
	digits := strings.TrimLeft(whole+frac, "0")
	if digits == "" {
		return "0", nil
	}
	exp -= len(frac)
	trimmed := strings.TrimRight(digits, "0")
	exp += len(digits) - len(trimmed)
	if len(trimmed)+max(exp, 0) > maxDigits || exp < -99999999/2 {
		return "", fmt.Errorf("%w: a number of more than %d digits", ErrBounds, maxDigits)
	}
	var b strings.Builder
	if neg {
		b.WriteByte('-')
	}
	if exp >= 0 {
		b.WriteString(trimmed)
		b.WriteString(strings.Repeat("0", exp))
		return b.String(), nil
	}
	rest := trimmed[1:]
	if rest == "" {
		rest = "0"
	}
	fmt.Fprintf(&b, "%c.%sE%d", trimmed[0], rest, exp+len(trimmed)-1)
	return b.String(), nil
}

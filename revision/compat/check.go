package compat

import (
	"fmt"
	"slices"
	"strings"
)

// Declared is what one part declares.
type Declared struct {
	Provides, Requires, Conflicts []Term
}

// Part is something that declares: the BSP, a container, the device itself.
type Part struct {
	Name string
	Declared
	// States are the subjects of which the part provides all that there is, even when that
	// is nothing: for example [Drivers].
	States []string
	// Some are the subjects of which there may be more than the part provides: what it does
	// not provide may be there all the same.
	Some []string
}

// Drivers is the subject of all drivers, for [Part.States].
const Drivers = Driver + ":"

// Provided is a declaration with the part that provides it.
type Provided struct {
	Part string
	Term Term
}

// Problem is one declaration that does not hold.
type Problem struct {
	Part     string
	Conflict bool // it is one of the part's conflicts, else of its requirements
	Term     Term
	// Others are what it is in conflict with or, for a requirement, what is provided of
	// the same kind and is not enough; empty when nothing is.
	Others []Provided
	// Stated are the parts that say what there is of this kind.
	Stated []string
}

// maxShown bounds the others that a text names.
const maxShown = 3

// Error names both sides.
func (p Problem) Error() string {
	verb := "requires"
	if p.Conflict {
		verb = "conflicts with"
	}
	text := fmt.Sprintf("%s %s %s, ", p.Part, verb, p.Term)
	switch {
	case len(p.Others) > 0:
		return text + p.others()
	case len(p.Stated) > 0:
		return text + fmt.Sprintf("%s does not provide it", strings.Join(p.Stated, ", "))
	}
	return text + "which nothing provides"
}

func (p Problem) others() string {
	var list []string
	for _, o := range p.Others[:min(len(p.Others), maxShown)] {
		list = append(list, fmt.Sprintf("%s provides %s", o.Part, o.Term))
	}
	if n := len(p.Others) - maxShown; n > 0 {
		list = append(list, fmt.Sprintf("%d more do so", n))
	}
	return strings.Join(list, ", ")
}

// Problems are all declarations of some parts that do not hold, in the order of the parts.
type Problems []Problem

// Error implements error.
func (ps Problems) Error() string {
	const most = 20
	var list []string
	for _, p := range ps[:min(len(ps), most)] {
		list = append(list, p.Error())
	}
	if n := len(ps) - most; n > 0 {
		list = append(list, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(list, "; ")
}

// Outcome is the message of an update that ends so, in the form of the others (manual:
// Updates, WONTGO).
func (Problems) Outcome() string { return "State JSON has incompatible parts" }

// Check returns what does not hold, nil when everything does. A requirement about the
// platform is judged only when a part states what there is of its kind: a BSP that
// does not say its board is good for any, and nobody but the device knows its runtime
// ([Unknown] has what was not judged).
// What the part itself provides satisfies its requirements, and is not in its way.
func Check(parts []Part) Problems {
	in := index(parts)
	var out Problems
	for i := range parts {
		p := &parts[i]
		for _, t := range p.Requires {
			if bad := in.require(p.Name, t); bad != nil {
				out = append(out, *bad)
			}
		}
		for _, t := range p.Conflicts {
			others := slices.DeleteFunc(in.matching(t), func(o Provided) bool { return o.Part == p.Name })
			if len(others) > 0 {
				out = append(out, Problem{Part: p.Name, Conflict: true, Term: t, Others: others})
			}
		}
	}
	return out
}

// Unknown returns, as text, the requirements and conflicts that [Check] passes over, because no part
// states what there is of their kind: about the kernel of a BSP that declares nothing, for example.
func Unknown(parts []Part) (out []string) {
	in := index(parts)
	for i := range parts {
		p := &parts[i]
		for n, list := range [][]Term{p.Requires, p.Conflicts} {
			verb := [...]string{"requires", "conflicts with"}[n]
			for _, t := range list {
				if slices.Contains(platform, t.subject()) && len(in.stated[t.subject()]) == 0 && len(in.matching(t)) == 0 {
					out = append(out, p.Name+" "+verb+" "+t.String()+"; no part says what there is of that kind")
				}
			}
		}
	}
	return out
}

// platform are the subjects that are judged only where they are stated.
var platform = []string{Arch + ":", Board + ":", Feature + ":", Drivers, Kernel, Runtime}

// provisions are what all parts provide.
type provisions struct {
	byKey  map[string][]Provided
	single map[string][]Provided // by subject, where a platform has one
	stated map[string][]string   // the parts that state a subject
}

func index(parts []Part) *provisions {
	in := &provisions{map[string][]Provided{}, map[string][]Provided{}, map[string][]string{}}
	for _, p := range parts {
		for _, t := range p.Provides {
			in.byKey[t.key()] = append(in.byKey[t.key()], Provided{p.Name, t})
			if t.Kind == Arch || t.Kind == Board {
				in.single[t.subject()] = append(in.single[t.subject()], Provided{p.Name, t})
			}
			if !slices.Contains(p.Some, t.subject()) {
				in.state(t.subject(), p.Name)
			}
		}
		for _, subject := range p.States {
			in.state(subject, p.Name)
		}
	}
	return in
}

func (in *provisions) state(subject, part string) {
	if slices.Contains(platform, subject) && !slices.Contains(in.stated[subject], part) {
		in.stated[subject] = append(in.stated[subject], part)
	}
}

// matching returns what satisfies a term. Something without a version satisfies none.
func (in *provisions) matching(t Term) (out []Provided) {
	for _, p := range in.byKey[t.key()] {
		if t.Op == "" || p.Term.Version != "" && meets(p.Term.Version, t.Op, t.Version) {
			out = append(out, p)
		}
	}
	return out
}

func (in *provisions) require(part string, t Term) *Problem {
	subject := t.subject()
	stated := in.stated[subject]
	if len(in.matching(t)) > 0 || slices.Contains(platform, subject) && len(stated) == 0 {
		return nil
	}
	others := in.byKey[t.key()]
	if len(others) == 0 {
		others = in.single[subject]
	}
	return &Problem{Part: part, Term: t, Others: others, Stated: stated}
}

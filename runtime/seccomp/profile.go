// Package seccomp compiles system call profiles in LXC's text format
// (lxc.container.conf(5), seccomp configuration) to filters for the kernel
// (kernel documentation, userspace-api/seccomp_filter).
//
// A profile begins with its version. Version 1 lists the numbers of the allowed
// calls; every other call kills the process. Version 2:
//
//	2
//	denylist [ACTION]        or allowlist; ACTION is for calls without a rule
//	reject_force_umount      umount2 with MNT_FORCE gives EACCES
//	[all]                    rules for every architecture; or [x86_64], [arm], ...
//	kexec_load errno 1       an action: allow, kill, trap, log, errno NUMBER
//	socket errno 97 [0,16,SCMP_CMP_EQ]
//
// The rules of one call are tried in the order of the file, those with conditions
// before those without. A program of an architecture that the kernel runs but that has
// no table is killed.
package seccomp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

//go:generate go run gen.go

// Bounds of a profile.
const (
	maxLines = 4096
	maxLine  = 4096
)

// Profile is a parsed profile.
type Profile struct {
	Default uint32 // action for calls without a rule
	rules   []rule
}

type rule struct {
	arch   string // "" for all
	name   string // "" when only the number is known
	number uint32
	action uint32
	args   []argument
}

// argument is a condition on one of the call's six arguments.
type argument struct {
	index       int
	op          string // ==, !=, <, <=, >, >= or &=
	value, mask uint64
}

// Actions of seccomp_data (linux/seccomp.h).
const (
	actKill  = 0x80000000 // the process; kernels before 4.14 end the thread
	actTrap  = 0x00030000
	actErrno = 0x00050000
	actLog   = 0x7ffc0000
	actAllow = 0x7fff0000
)

// Parse reads a profile. The error joins every line that cannot be used.
func Parse(r io.Reader) (*Profile, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	p := &reader{}
	for sc.Scan() {
		if p.n++; p.n > maxLines {
			return nil, fmt.Errorf("reading the profile: more than %d lines", maxLines)
		}
		text, _, _ := strings.Cut(sc.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := p.line(text); err != nil {
			p.errs = append(p.errs, fmt.Errorf("line %d: %w", p.n, err))
			if p.version == 0 || p.version == 2 && !p.styled {
				break // the rest depends on this line
			}
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("reading the profile: line %d: %w", p.n+1, err)
	}
	if len(p.errs) == 0 && (p.version == 0 || p.version == 2 && !p.styled) {
		p.errs = append(p.errs, errors.New("the profile is not complete: a version and, for version 2, denylist or allowlist are expected"))
	}
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return &p.profile, nil
}

// reader is the state of reading a profile.
type reader struct {
	profile Profile
	n       int
	version int
	styled  bool // the line denylist or allowlist is read
	rule    uint32
	arch    string
	errs    []error
}

func (p *reader) line(text string) error {
	switch {
	case p.version == 0:
		if text != "1" && text != "2" {
			return fmt.Errorf("%.80q is not a profile version; expected 1 or 2", text)
		}
		p.version = int(text[0] - '0')
		p.profile.Default, p.rule = actKill, actAllow
		return nil
	case p.version == 1:
		return p.number(text)
	case !p.styled:
		return p.style(text)
	case text[0] == '[':
		return p.section(text)
	case strings.Fields(text)[0] == "reject_force_umount":
		p.profile.rules = append(p.profile.rules, rule{arch: p.arch, name: "umount2", action: actErrno | uint32(unix.EACCES),
			args: []argument{{index: 1, op: "&=", value: unix.MNT_FORCE, mask: unix.MNT_FORCE}}})
		return nil
	}
	return p.call(text)
}

// number takes a line of version 1, which has only a list of allowed calls. The word
// allowlist may come before the numbers.
func (p *reader) number(text string) error {
	if text == "allowlist" || text == "whitelist" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return fmt.Errorf("%.80q is not a system call number", text)
	}
	if len(arches) == 0 {
		return fmt.Errorf("the numbers of the system calls of %s are not known", runtime.GOARCH)
	}
	p.profile.rules = append(p.profile.rules, rule{arch: arches[0].name, number: uint32(n), action: actAllow})
	return nil
}

func (p *reader) style(text string) error {
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "allowlist", "whitelist":
		p.profile.Default, p.rule = actKill, actAllow
	case "denylist", "blacklist":
		p.profile.Default, p.rule = actAllow, actKill
	default:
		return fmt.Errorf("%.80q is neither denylist nor allowlist", text)
	}
	p.styled = true
	var err error
	p.profile.Default, err = action(strings.Fields(rest), p.profile.Default)
	return err
}

// action reads ACTION; without words it returns def.
func action(words []string, def uint32) (uint32, error) {
	if len(words) == 0 {
		return def, nil
	}
	switch words[0] {
	case "kill":
		return actKill, nil
	case "trap":
		return actTrap, nil
	case "log":
		return actLog, nil
	case "allow":
		return actAllow, nil
	case "errno":
		if len(words) == 2 {
			if n, err := strconv.ParseUint(words[1], 10, 12); err == nil {
				return actErrno | uint32(n), nil
			}
		}
		return 0, errors.New("errno needs a number up to 4095")
	case "notify":
		return 0, errors.New("the action notify is not supported; use errno")
	}
	return 0, fmt.Errorf("%.80q is not an action; expected allow, kill, trap, log or errno NUMBER", words[0])
}

// archName returns the architecture of a section, "" for all. An unknown word is taken
// as an architecture of another machine.
func archName(word string) string {
	switch word {
	case "all":
		return ""
	case "amd64":
		return "x86_64"
	case "i386", "i686":
		return "x86"
	case "aarch64":
		return "arm64"
	}
	return word
}

// section takes [ARCH]. Sections for other machines have no effect.
func (p *reader) section(text string) error {
	word := strings.ToLower(strings.Trim(text, "[] \t"))
	if word == "" || !strings.HasSuffix(text, "]") {
		return fmt.Errorf("%.80q is not [ARCHITECTURE]", text)
	}
	p.arch = archName(word)
	return nil
}

// call takes NAME [ACTION] [CONDITION]...
func (p *reader) call(text string) error {
	text, conditions, some := strings.Cut(text, "[")
	words := strings.Fields(text)
	r := rule{arch: p.arch, name: words[0]}
	var err error
	if r.action, err = action(words[1:], p.rule); err != nil {
		return fmt.Errorf("%.80s: %w", r.name, err)
	}
	if some {
		if r.args, err = arguments("[" + conditions); err != nil {
			return fmt.Errorf("%.80s: %w", r.name, err)
		}
	}
	p.profile.rules = append(p.profile.rules, r)
	return nil
}

// comparison returns the operator for either of its two names, "" for other words.
func comparison(word string) string {
	switch word {
	case "!=", "SCMP_CMP_NE":
		return "!="
	case "<", "SCMP_CMP_LT":
		return "<"
	case "<=", "SCMP_CMP_LE":
		return "<="
	case "==", "SCMP_CMP_EQ":
		return "=="
	case ">=", "SCMP_CMP_GE":
		return ">="
	case ">", "SCMP_CMP_GT":
		return ">"
	case "&=", "SCMP_CMP_MASKED_EQ":
		return "&="
	}
	return ""
}

// arguments reads [INDEX,VALUE,OPERATOR] and [INDEX,VALUE,SCMP_CMP_MASKED_EQ,MASK],
// all of which must hold.
func arguments(text string) (args []argument, err error) {
	for _, one := range strings.Split(strings.TrimSpace(text), "]") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		f := strings.Split(strings.TrimPrefix(one, "["), ",")
		if one[0] != '[' || len(f) < 3 || len(f) > 4 {
			return nil, fmt.Errorf("%.80q is not [INDEX,VALUE,OPERATOR]", one)
		}
		var a argument
		if a.index, err = strconv.Atoi(strings.TrimSpace(f[0])); err != nil || a.index < 0 || a.index > 5 {
			return nil, fmt.Errorf("%.80q: the index of an argument must be 0 to 5", one)
		}
		if a.op = comparison(strings.TrimSpace(f[2])); a.op == "" {
			return nil, fmt.Errorf("%.80q: %q is not a comparison", one, f[2])
		}
		if a.value, err = strconv.ParseUint(strings.TrimSpace(f[1]), 0, 64); err != nil {
			return nil, fmt.Errorf("%.80q: %q is not a value", one, f[1])
		}
		if len(f) == 4 {
			if a.mask, err = strconv.ParseUint(strings.TrimSpace(f[3]), 0, 64); err != nil {
				return nil, fmt.Errorf("%.80q: %q is not a mask", one, f[3])
			}
		}
		if args = append(args, a); len(args) > 6 {
			return nil, errors.New("more than six conditions")
		}
	}
	return args, nil
}

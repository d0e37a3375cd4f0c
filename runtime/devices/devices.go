// Package devices restricts which device nodes the processes of a control group may
// make, read and write: by an eBPF program on a cgroup v2 group (Linux 4.15,
// CONFIG_CGROUP_BPF), or by rules for a group of the v1 controller "devices".
//
// A rule is written as for the v1 controller (kernel documentation, cgroup-v1/devices):
//
//	a                  everything; it replaces all rules before it
//	c 1:3 rwm          a character device: read, write, mknod
//	b 8:* r            all block devices of a major number, reading
//
// Without rules everything is allowed. The last rule that matches a device and a kind
// of access decides. The v1 controller does so only in part: it keeps exceptions from
// "all" or "none", and a deny removes only exceptions that name exactly the same
// device.
package devices

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Access is a set of kinds of access, the bits of BPF_DEVCG_ACC_*.
type Access uint8

// The kinds of access.
const (
	Mknod Access = 1 << iota
	Read
	Write
	all = Mknod | Read | Write
)

// anyNumber is a major or minor number that stands for all.
const anyNumber = -1

// Rule allows or denies access to devices.
type Rule struct {
	Allow bool
	// Type is 'b' for block devices, 'c' for character devices, or 'a' for everything,
	// which ignores the other fields but Allow.
	Type         byte
	Major, Minor int32 // or Any
	Access       Access
}

// List is a list of rules; later ones override earlier ones.
type List []Rule

// Parse reads the text of one rule.
func Parse(allow bool, text string) (Rule, error) {
	f := strings.Fields(text)
	if len(f) > 0 && f[0] == "a" {
		return Rule{Allow: allow, Type: 'a', Major: anyNumber, Minor: anyNumber, Access: all}, nil
	}
	if len(f) != 3 || f[0] != "b" && f[0] != "c" {
		return Rule{}, fmt.Errorf("%.80q is not a device rule; expected a, or TYPE MAJOR:MINOR ACCESS as in c 1:3 rwm", text)
	}
	r := Rule{Allow: allow, Type: f[0][0]}
	major, minor, ok := strings.Cut(f[1], ":")
	if !ok {
		return Rule{}, fmt.Errorf("%.80q: %q is not a MAJOR:MINOR", text, f[1])
	}
	var err error
	if r.Major, err = number(major); err != nil {
		return Rule{}, fmt.Errorf("%.80q: %w", text, err)
	}
	if r.Minor, err = number(minor); err != nil {
		return Rule{}, fmt.Errorf("%.80q: %w", text, err)
	}
	for _, c := range f[2] {
		i := strings.IndexRune("mrw", c)
		if i < 0 {
			return Rule{}, fmt.Errorf("%.80q: %q is not a kind of access; expected r, w or m", text, c)
		}
		r.Access |= 1 << i
	}
	return r, nil
}

// number reads a device number; the kernel has 12 bits of major, 20 of minor numbers.
func number(s string) (int32, error) {
	if s == "*" {
		return anyNumber, nil
	}
	n, err := strconv.ParseUint(s, 10, 20)
	if err != nil {
		return 0, fmt.Errorf("%q is not a device number", s)
	}
	return int32(n), nil
}

// String writes a rule as the v1 controller reads it.
func (r Rule) String() string {
	if r.Type == 'a' {
		return "a"
	}
	text := func(n int32) string {
		if n == anyNumber {
			return "*"
		}
		return strconv.Itoa(int(n))
	}
	var access strings.Builder
	for i, c := range "mrw" {
		if r.Access&(1<<i) != 0 {
			access.WriteRune(c)
		}
	}
	return string(r.Type) + " " + text(r.Major) + ":" + text(r.Minor) + " " + access.String()
}

// effective drops the rules before the last rule about everything; base is what holds
// for devices that no other rule matches.
func (l List) effective() (base bool, rest List) {
	base = true
	for _, r := range l {
		if r.Type == 'a' {
			base, rest = r.Allow, nil
			continue
		}
		rest = append(rest, r)
	}
	return base, rest
}

// Restricts reports whether the list denies anything.
func (l List) Restricts() bool {
	base, rest := l.effective()
	if !base {
		return true
	}
	for _, r := range rest {
		if !r.Allow && r.Access != 0 {
			return true
		}
	}
	return false
}

// Write writes the list to a group of the v1 controller "devices", given by its
// directory.
func (l List) Write(group string) error {
	for _, r := range l {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		if err := os.WriteFile(filepath.Join(group, file), []byte(r.String()), 0); err != nil {
			return fmt.Errorf("writing the rule %q: %w", r, err)
		}
	}
	return nil
}

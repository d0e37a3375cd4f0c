package seccomp

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// arch is an architecture of programs that this machine's kernel runs.
type arch struct {
	name  string
	audit uint32
	wide  bool   // registers of 64 bits
	calls string // names in the order of their numbers, see gen.go
}

// number returns the number of a system call.
func (a *arch) number(name string) (uint32, bool) {
	next := uint64(0)
	for word := range strings.FieldsSeq(a.calls) {
		if word[0] >= '0' && word[0] <= '9' {
			next, _ = strconv.ParseUint(word, 10, 32)
			continue
		}
		if word == name {
			return uint32(next), true
		}
		next++
	}
	return 0, false
}

// insn is one instruction of struct sock_filter.
type insn struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// x32 is the bit in the system call numbers of the x32 ABI on x86_64, for which there is
// no table.
const x32 = 0x40000000

const (
	load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jgt  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	jge  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	ja   = unix.BPF_JMP | unix.BPF_JA
	and  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	ret  = unix.BPF_RET | unix.BPF_K
)

// Compile makes the filter for this machine, in the form for [Install]. unknown are the
// calls that none of its architectures has; their rules have no effect.
func (p *Profile) Compile() (code []byte, unknown []string, err error) {
	prog, unknown := p.program(arches, binary.NativeEndian.Uint16([]byte{1, 0}) != 1)
	if len(prog) > unix.BPF_MAXINSNS {
		return nil, nil, fmt.Errorf("the profile takes %d instructions, the kernel's limit is %d; name fewer calls", len(prog), unix.BPF_MAXINSNS)
	}
	for _, in := range prog {
		code = binary.NativeEndian.AppendUint16(code, in.code)
		code = append(code, in.jt, in.jf)
		code = binary.NativeEndian.AppendUint32(code, in.k)
	}
	return code, unknown, nil
}

// program returns the filter: the architecture selects a part, the call's number and
// arguments select a rule.
func (p *Profile) program(arches []arch, bigEndian bool) (prog []insn, unknown []string) {
	prog = []insn{{load, 0, 0, dataArch}}
	var parts [][]insn
	known := map[string]bool{}
	for i := range arches {
		parts = append(parts, p.part(&arches[i], bigEndian, known))
	}
	// Two instructions for each architecture jump to its part, which may be too far for
	// a conditional jump; the next instruction ends programs of other architectures.
	at := uint32(2*len(parts) + 1)
	for i, part := range parts {
		prog = append(prog, insn{jeq, 0, 1, arches[i].audit}, insn{ja, 0, 0, at - uint32(2*i) - 2})
		at += uint32(len(part))
	}
	prog = append(prog, insn{ret, 0, 0, actKill})
	for _, part := range parts {
		prog = append(prog, part...)
	}
	for _, r := range p.rules {
		if r.name != "" && !known[r.name] {
			known[r.name] = true
			unknown = append(unknown, r.name)
		}
	}
	return prog, unknown
}

// part returns the filter for one architecture.
func (p *Profile) part(a *arch, bigEndian bool, known map[string]bool) []insn {
	prog := []insn{{load, 0, 0, dataNumber}}
	if a.name == "x86_64" {
		prog = append(prog, insn{jge, 0, 1, x32}, insn{ret, 0, 0, actKill})
	}
	for _, r := range p.resolve(a, known) {
		body := []insn{{ret, 0, 0, r.action}}
		for i := len(r.args) - 1; i >= 0; i-- {
			body = append(r.args[i].program(a.wide, bigEndian, len(body)), body...)
		}
		if len(r.args) > 0 {
			body = append(body, insn{load, 0, 0, dataNumber})
		}
		prog = append(append(prog, insn{jeq, 0, uint8(len(body)), r.number}), body...)
	}
	return append(prog, insn{ret, 0, 0, p.Default})
}

// resolve returns the rules for an architecture, with call numbers. Rules with
// conditions come before rules without; otherwise their order is kept.
func (p *Profile) resolve(a *arch, known map[string]bool) []rule {
	var list []rule
	for _, r := range p.rules {
		if r.name != "" {
			n, ok := a.number(r.name)
			known[r.name] = known[r.name] || ok || r.arch != "" && r.arch != a.name
			if r.number = n; !ok {
				continue
			}
		}
		if r.arch == "" || r.arch == a.name {
			list = append(list, r)
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return len(list[i].args) > 0 && len(list[j].args) == 0 })
	return list
}

// program tests one argument; when it does not match, it jumps over the rest of the
// rule, which has rest more instructions.
func (c argument) program(wide, bigEndian bool, rest int) []insn {
	low, high := uint32(dataArgs+8*c.index), uint32(dataArgs+8*c.index+4)
	if bigEndian {
		low, high = high, low
	}
	value, mask := c.value, ^uint64(0)
	if c.op == "&=" {
		mask = c.mask
	}
	var prog []insn
	const fits, fails = 254, 255 // placeholders until the lengths are known
	word := func(off uint32, m uint32) {
		prog = append(prog, insn{load, 0, 0, off})
		if m != ^uint32(0) {
			prog = append(prog, insn{and, 0, 0, m})
		}
	}
	if wide {
		word(high, uint32(mask>>32))
		h := uint32(value >> 32)
		switch c.op {
		case "==", "&=":
			prog = append(prog, insn{jeq, 0, fails, h})
		case "!=":
			prog = append(prog, insn{jeq, 0, fits, h})
		case ">", ">=":
			prog = append(prog, insn{jgt, fits, 0, h}, insn{jeq, 0, fails, h})
		default:
			prog = append(prog, insn{jgt, fails, 0, h}, insn{jeq, 0, fits, h})
		}
	}
	word(low, uint32(mask))
	l := uint32(value)
	prog = append(prog, map[string]insn{
		"==": {jeq, 0, fails, l}, "&=": {jeq, 0, fails, l}, "!=": {jeq, fails, 0, l},
		">": {jgt, 0, fails, l}, ">=": {jge, 0, fails, l}, "<": {jge, fails, 0, l}, "<=": {jgt, fails, 0, l},
	}[c.op])
	for i := range prog {
		place := func(j uint8) uint8 {
			switch j {
			case fits:
				return uint8(len(prog) - i - 1)
			case fails:
				return uint8(len(prog) - i - 1 + rest)
			}
			return j
		}
		if prog[i].code&7 == unix.BPF_JMP {
			prog[i].jt, prog[i].jf = place(prog[i].jt), place(prog[i].jf)
		}
	}
	return prog
}

// Install installs the filter for this thread and its children; it cannot be removed.
// The thread must have the capability sys_admin or have set no_new_privs. Afterwards
// even system calls of Go's runtime may be denied: the caller should only call execve.
func Install(code []byte) error {
	prog := unix.SockFprog{Len: uint16(len(code) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&code[0]))}
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0, 0)
	runtime.KeepAlive(code)
	if errno != 0 {
		return fmt.Errorf("installing the system call filter: %w", errno)
	}
	return nil
}

package devices

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoBPF means that the kernel cannot restrict devices on cgroup v2 groups.
var ErrNoBPF = errors.New("the kernel has no eBPF programs for control groups (CONFIG_CGROUP_BPF)")

// Fields of struct bpf_cgroup_dev_ctx (linux/bpf.h).
const (
	ctxAccess = 0 // access << 16 | type
	ctxMajor  = 4
	ctxMinor  = 8
)

// Registers: the context comes in r1, the verdict goes out in r0.
const (
	r0 = iota
	r1
	left // kinds of access that no rule has decided yet
	kind
	major
	minor
)

// Types of devices (BPF_DEVCG_DEV_*).
var kinds = map[byte]int32{'b': 1, 'c': 2}

// insn is one instruction of struct bpf_insn.
type insn struct {
	code     byte
	dst, src byte
	off      int16
	imm      int32
}

// program returns the list as instructions. Rules are tried from the last to the first;
// each removes the kinds of access that it allows, and the first that denies a
// remaining one ends the program.
func (l List) program() []insn {
	base, rest := l.effective()
	p := []insn{
		{unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM, kind, r1, ctxAccess, 0},
		{unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM, major, r1, ctxMajor, 0},
		{unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM, minor, r1, ctxMinor, 0},
		{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X, left, kind, 0, 0},
		{unix.BPF_ALU64 | unix.BPF_RSH | unix.BPF_K, left, 0, 0, 16},
		{unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K, kind, 0, 0, 0xffff},
	}
	for _, r := range slices.Backward(rest) {
		p = append(p, r.program()...)
	}
	verdict := int32(0)
	if base {
		verdict = 1
	}
	return append(p, insn{unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K, left, 0, 2, 0},
		insn{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, r0, 0, 0, 1}, exit,
		insn{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, r0, 0, 0, verdict}, exit)
}

var exit = insn{code: unix.BPF_JMP | unix.BPF_EXIT}

// program returns the instructions of one rule: jumps over it for devices that do not
// match, then its effect.
func (r Rule) program() []insn {
	act := []insn{{unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K, left, 0, 0, int32(all &^ r.Access)}}
	if !r.Allow {
		act = []insn{
			{unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, left, 0, 1, int32(r.Access)},
			{unix.BPF_JMP | unix.BPF_JA, 0, 0, 2, 0},
			{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, r0, 0, 0, 0}, exit,
		}
	}
	tests := []insn{{unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K, kind, 0, 0, kinds[r.Type]}}
	if r.Major != anyNumber {
		tests = append(tests, insn{unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K, major, 0, 0, r.Major})
	}
	if r.Minor != anyNumber {
		tests = append(tests, insn{unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K, minor, 0, 0, r.Minor})
	}
	for i := range tests {
		tests[i].off = int16(len(tests) - i - 1 + len(act))
	}
	return append(tests, act...)
}

// encode writes instructions as the kernel reads them: in the byte order of the
// machine, which also decides the order of the two registers in a byte.
func encode(p []insn, order binary.ByteOrder) []byte {
	var b []byte
	for _, in := range p {
		regs := in.src<<4 | in.dst
		if order == binary.BigEndian {
			regs = in.dst<<4 | in.src
		}
		b = append(b, in.code, regs, 0, 0, 0, 0, 0, 0)
		order.PutUint16(b[len(b)-6:], uint16(in.off))
		order.PutUint32(b[len(b)-4:], uint32(in.imm))
	}
	return b
}

func machineOrder() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

// loadAttr is the part of union bpf_attr for BPF_PROG_LOAD that Linux 4.15 has.
type loadAttr struct {
	progType, count     uint32
	insns, license      uint64
	logLevel, logSize   uint32
	logBuf              uint64
	kernVersion, pFlags uint32
}

type attachAttr struct {
	target, prog, attachType, flags uint32
}

// Attach applies the list to a cgroup v2 group, given by the descriptor of its
// directory, and to the groups below it, for as long as the group exists. Processes may
// add programs to the groups below, which can only deny more. The error is [ErrNoBPF]
// when the kernel does not support it.
func (l List) Attach(group int) error {
	prog, err := load(encode(l.program(), machineOrder()))
	if err != nil {
		return fmt.Errorf("loading the device rules: %w", err)
	}
	defer unix.Close(prog)
	attr := attachAttr{uint32(group), uint32(prog), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attaching the device rules: %w", err)
	}
	return nil
}

// load loads a program into the kernel. Before Linux 5.11 its memory counts as locked
// memory, whose limit may be too low; load raises the limit for the call.
func load(code []byte) (int, error) {
	license := []byte("GPL\x00")
	attr := loadAttr{
		progType: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code) / 8),
		insns: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if errors.Is(err, unix.EPERM) {
		var old unix.Rlimit
		most := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &most, &old) == nil {
			fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
			_ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil)
		}
	}
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return -1, ErrNoBPF
	}
	return fd, err
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

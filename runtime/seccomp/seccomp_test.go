package seccomp

import (
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is what a program asks of the kernel.
type call struct {
	arch   string
	name   string
	number uint32 // when there is no name
	args   [6]uint64
}

// run lets an interpreter of BPF decide, for tables of any architecture.
func run(t *testing.T, p *Profile, tables []arch, bigEndian bool, c call) uint32 {
	t.Helper()
	prog, _ := p.program(tables, bigEndian)
	raw := make([]bpf.RawInstruction, len(prog))
	for i, in := range prog {
		raw[i] = bpf.RawInstruction{Op: in.code, Jt: in.jt, Jf: in.jf, K: in.k}
	}
	list, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("there are instructions that nobody knows")
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 64) // the interpreter reads words of network order
	put := binary.BigEndian.PutUint32
	for _, a := range tables {
		if a.name == c.arch {
			put(data[dataArch:], a.audit)
			if n, ok := a.number(c.name); ok {
				c.number = n
			}
		}
	}
	put(data[dataNumber:], c.number)
	for i, v := range c.args {
		low, high := dataArgs+8*i, dataArgs+8*i+4
		if bigEndian {
			low, high = high, low
		}
		put(data[low:], uint32(v))
		put(data[high:], uint32(v>>32))
	}
	verdict, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

func parse(t *testing.T, text string) *Profile {
	t.Helper()
	p, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const errno1 = actErrno | 1

func TestStyles(t *testing.T) {
	for name, c := range map[string]struct {
		profile      string
		mkdir, other uint32
	}{
		"denylist":            {"2\ndenylist\nmkdirat\n", actKill, actAllow},
		"denylist with errno": {"2\nblacklist\n[all]\nmkdirat errno 1 # no directories\n", errno1, actAllow},
		"allowlist":           {"2\nallowlist\nmkdirat\n", actAllow, actKill},
		"allowlist and errno": {"2\nwhitelist errno 1\nmkdirat\n", actAllow, errno1},
		"log":                 {"2\nallowlist log\nmkdirat trap\n", actTrap, actLog},
		"other machine's":     {"2\ndenylist\n[s390x]\nmkdirat\n", actAllow, actAllow},
		"own section":         {"2\ndenylist\n[S390X]\nexit\n[" + strings.ToUpper(arches[0].name) + "]\nmkdirat log\n", actLog, actAllow},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, c.profile)
			a := arches[0].name
			if got := run(t, p, arches, false, call{arch: a, name: "mkdirat"}); got != c.mkdir {
				t.Errorf("mkdirat gives %#x, want %#x", got, c.mkdir)
			}
			if got := run(t, p, arches, false, call{arch: a, name: "unlinkat"}); got != c.other {
				t.Errorf("unlinkat gives %#x, want %#x", got, c.other)
			}
			if got := run(t, p, arches, false, call{arch: "none", name: "mkdirat"}); got != actKill {
				t.Errorf("a program of an unknown architecture gets %#x", got)
			}
		})
	}
}

// TestConditions holds every comparison against the same in Go, at its borders, for
// all widths and byte orders.
func TestConditions(t *testing.T) {
	values := []uint64{0, 1, 5, 0xffffffff, 0x100000000, 0x100000005, 0x500000000, ^uint64(0)}
	holds := map[string]func(a, v uint64) bool{
		"==": func(a, v uint64) bool { return a == v }, "!=": func(a, v uint64) bool { return a != v },
		"<": func(a, v uint64) bool { return a < v }, "<=": func(a, v uint64) bool { return a <= v },
		">": func(a, v uint64) bool { return a > v }, ">=": func(a, v uint64) bool { return a >= v },
		"&=": func(a, v uint64) bool { return a&0x100000005 == v },
	}
	for op, want := range holds {
		for _, bigEndian := range []bool{false, true} {
			for _, wide := range []bool{false, true} {
				tables := []arch{{name: "it", audit: 7, wide: wide, calls: "zero one"}}
				for _, v := range values {
					p := &Profile{Default: actAllow, rules: []rule{{name: "one", action: errno1,
						args: []argument{{index: 2, op: op, value: v, mask: 0x100000005}}}}}
					for _, a := range values {
						fits := want(a, v)
						if !wide {
							fits = want(a&0xffffffff, v&0xffffffff)
							if op == "&=" {
								fits = a&5 == v&0xffffffff
							}
						}
						got := run(t, p, tables, bigEndian, call{arch: "it", name: "one", args: [6]uint64{2: a}})
						if (got == errno1) != fits {
							t.Errorf("%#x %s %#x, wide %v, big endian %v: %#x", a, op, v, wide, bigEndian, got)
						}
					}
				}
			}
		}
	}
}

func TestRulesOfOneCall(t *testing.T) {
	p := parse(t, "2\ndenylist\n[all]\nsocket errno 1\nsocket trap [0,16,SCMP_CMP_EQ]\nsocket log [0,17,==][1,0x3,SCMP_CMP_MASKED_EQ,0xf]\nreject_force_umount\n")
	a := arches[0].name
	for _, c := range []struct {
		name string
		args [6]uint64
		want uint32
	}{
		{"socket", [6]uint64{1}, errno1}, {"socket", [6]uint64{16}, actTrap}, {"socket", [6]uint64{17, 0x13}, actLog},
		{"socket", [6]uint64{17, 0x14}, errno1}, {"getpid", [6]uint64{16}, actAllow},
		{"umount2", [6]uint64{1, unix.MNT_FORCE}, actErrno | uint32(unix.EACCES)},
		{"umount2", [6]uint64{1, unix.MNT_FORCE | unix.MNT_DETACH}, actErrno | uint32(unix.EACCES)},
		{"umount2", [6]uint64{1, unix.MNT_DETACH}, actAllow},
	} {
		if got := run(t, p, arches, false, call{arch: a, name: c.name, args: c.args}); got != c.want {
			t.Errorf("%s%v gives %#x, want %#x", c.name, c.args, got, c.want)
		}
	}
}

// TestEveryCallOfEveryArchitecture allows all calls and tries each: jumps over a
// whole table must arrive.
func TestEveryCallOfEveryArchitecture(t *testing.T) {
	for i := range arches {
		a := &arches[i]
		var text strings.Builder
		text.WriteString("2\nallowlist\n")
		var list []string
		for w := range strings.FieldsSeq(a.calls) {
			if w[0] < '0' || w[0] > '9' {
				list = append(list, w)
				text.WriteString(w + "\n")
			}
		}
		if len(list) < 250 {
			t.Errorf("%s has only %d calls", a.name, len(list))
		}
		p := parse(t, text.String())
		for _, n := range list[:20] {
			if got := run(t, p, arches, false, call{arch: a.name, name: n}); got != actAllow {
				t.Errorf("%s on %s gives %#x", n, a.name, got)
			}
		}
		if got := run(t, p, arches, false, call{arch: a.name, number: 0x3fffffff}); got != actKill {
			t.Errorf("a call that does not exist gives %#x", got)
		}
		if _, _, err := p.Compile(); err != nil {
			t.Error(err)
		}
	}
}

// TestTableAgreesWithPackage compares some numbers with those this test is built with.
func TestTableAgreesWithPackage(t *testing.T) {
	for name, want := range map[string]uint32{
		"read": unix.SYS_READ, "execve": unix.SYS_EXECVE, "clone": unix.SYS_CLONE, "mount": unix.SYS_MOUNT,
		"openat2": unix.SYS_OPENAT2, "bpf": unix.SYS_BPF, "exit_group": unix.SYS_EXIT_GROUP,
	} {
		if got, ok := arches[0].number(name); !ok || got != want {
			t.Errorf("%s has number %d, %v; want %d", name, got, ok, want)
		}
	}
	if _, ok := arches[0].number("nosuchcall"); ok {
		t.Error("a call that does not exist has a number")
	}
}

func TestVersionOne(t *testing.T) {
	p := parse(t, "1\nallowlist\n0\n7\n")
	for n, want := range map[uint32]uint32{0: actAllow, 7: actAllow, 8: actKill} {
		if got := run(t, p, arches, false, call{arch: arches[0].name, number: n}); got != want {
			t.Errorf("call %d gives %#x, want %#x", n, got, want)
		}
	}
}

func TestUnknownCallsAreNamed(t *testing.T) {
	_, unknown, err := parse(t, "2\ndenylist\nread\nno_such_call\nno_such_call\n[s390x]\ns390_only\n").Compile()
	if err != nil || len(unknown) != 1 || unknown[0] != "no_such_call" {
		t.Errorf("%v, %v", unknown, err)
	}
}

func TestBadProfiles(t *testing.T) {
	for text, want := range map[string]string{
		"": "not complete", "3\n": `"3" is not a profile version`, "2\n": "not complete", "2\nmaybe\n": "neither denylist nor allowlist",
		"2\ndenylist what\n": `"what" is not an action`, "2\ndenylist\nread errno\n": "errno needs a number",
		"2\ndenylist\nread errno 5000\n": "errno needs a number", "2\ndenylist\nread notify\n": "notify",
		"2\ndenylist\nread kill [7,1,==]\n": "0 to 5", "2\ndenylist\nread kill [0,1,=]\n": "not a comparison",
		"2\ndenylist\nread kill [0,x,==]\n": "not a value", "2\ndenylist\nread kill [0,1]\n": "is not [INDEX",
		"2\ndenylist\n[all\n": "is not [ARCH", "1\nx\n": "not a system call number",
		"2\ndenylist\nread errno x\nwrite what\n": "line 4",
		strings.Repeat("#\n", maxLines+1):         "more than 4096 lines",
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v; want %q", text, err, want)
		}
	}
	var many strings.Builder
	many.WriteString("2\ndenylist\n")
	for range 2100 {
		many.WriteString("read kill [0,1,==]\n")
	}
	if _, _, err := parse(t, many.String()).Compile(); err == nil || !strings.Contains(err.Error(), "instructions") {
		t.Errorf("a filter that is too long: %v", err)
	}
}

// Variables of a child: the profile under which it lives, and which of fatalCalls it
// then makes; without one it becomes another program.
const (
	childEnv = "SECCOMP_TEST"
	fatalEnv = "SECCOMP_TEST_CALL"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "inside":
		println(os.Mkdir(os.TempDir()+"/x", 0o700).Error())
		os.Exit(0)
	}
	child(os.Getenv(childEnv))
}

// child installs a filter, and makes a call or becomes a program that lives with it.
func child(text string) {
	runtime.LockOSThread()
	p, err := Parse(strings.NewReader(text))
	if err != nil {
		panic(err)
	}
	code, _, err := p.Compile()
	if err != nil {
		panic(err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if err := Install(code); err != nil {
		panic(err)
	}
	if call := fatalCalls[os.Getenv(fatalEnv)]; call != nil {
		call()
		os.Exit(0)
	}
	panic(syscall.Exec("/proc/self/exe", os.Args[:1], []string{childEnv + "=inside", "TMPDIR=" + os.TempDir()}))
}

func TestKernelObeysFilter(t *testing.T) {
	for name, c := range map[string]struct{ profile, want string }{
		"errno": {"2\ndenylist\nmkdir errno 28\nmkdirat errno 28\n", "no space left on device"},
		"kill":  {"2\ndenylist\nmkdir\nmkdirat\n", "signal: bad system call"},
		"allow": {"2\nallowlist allow\nmkdirat errno 13 [2,0777,==]\n", "file exists"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			dir := t.TempDir()
			if name == "allow" {
				if err := os.Mkdir(dir+"/x", 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd.Env = []string{childEnv + "=" + c.profile, "TMPDIR=" + dir}
			out, err := cmd.CombinedOutput()
			if got := string(out); err == nil && !strings.Contains(got, c.want) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\n%s\nwant %s", err, got, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2\ndenylist errno 1\n[all]\nsocket kill [0,16,SCMP_CMP_EQ][1,2,&=,3]\nreject_force_umount\n")
	f.Add("1\n1\n2\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		prog, _ := p.program(arches, false)
		for i, in := range prog {
			jump := int(max(in.jt, in.jf))
			if in.code == ja {
				jump = int(in.k)
			} else if in.code&7 != unix.BPF_JMP {
				jump = 0
			}
			if i+jump+1 > len(prog) {
				t.Fatalf("instruction %d of %d jumps %d", i, len(prog), jump)
			}
		}
	})
}

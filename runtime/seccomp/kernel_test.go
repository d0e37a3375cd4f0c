package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// filtered asks the kernel under a filter: it calls getppid, which heeds no argument,
// with each list of arguments and returns the kernel's errors. It does so on a thread
// that ends afterwards, for nobody gets rid of a filter.
func filtered(t *testing.T, profile string, calls [][6]uint64) []syscall.Errno {
	t.Helper()
	code, unknown, err := parse(t, profile).Compile()
	if err != nil || len(unknown) > 0 {
		t.Fatalf("%q: %v, unknown %v", profile, err, unknown)
	}
	got := make([]syscall.Errno, len(calls))
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = Install(code)
		}
		for i, c := range calls {
			_, _, got[i] = syscall.RawSyscall6(unix.SYS_GETPPID, uintptr(c[0]), uintptr(c[1]), uintptr(c[2]), uintptr(c[3]), uintptr(c[4]), uintptr(c[5]))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("%q: %v", profile, err)
	}
	return got
}

func TestKernelTakesActions(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]syscall.Errno{"allow": 0, "log": 0, "errno 0": 0, "errno 1": unix.EPERM, "errno 4094": 4094} {
		if got := filtered(t, "2\ndenylist\ngetppid "+action+"\n", make([][6]uint64, 1))[0]; got != want {
			t.Errorf("%s: the call gives %d, want %d", action, got, want)
		}
	}
}

// TestKernelComparesArguments holds each comparison of each argument against the same
// in Go, at the borders of words and values.
func TestKernelComparesArguments(t *testing.T) {
	t.Parallel()
	values := []uint64{0, 1, 5, 6, 0x7fffffff, 0x80000000, 0xffffffff}
	if strconv.IntSize == 64 {
		values = append(values, 0x100000000, 0x100000005, 0x500000001, 1<<63, ^uint64(0))
	}
	const mask, marked = 0x100000005, 77
	holds := map[string]func(a, v uint64) bool{
		"SCMP_CMP_EQ": func(a, v uint64) bool { return a == v }, "SCMP_CMP_NE": func(a, v uint64) bool { return a != v },
		"SCMP_CMP_LT": func(a, v uint64) bool { return a < v }, "SCMP_CMP_LE": func(a, v uint64) bool { return a <= v },
		"SCMP_CMP_GT": func(a, v uint64) bool { return a > v }, "SCMP_CMP_GE": func(a, v uint64) bool { return a >= v },
		"SCMP_CMP_MASKED_EQ": func(a, v uint64) bool { return a&uint64(uintptr(mask&^uint64(0)>>(64-strconv.IntSize))) == v },
	}
	for op, want := range holds {
		for i, v := range values {
			index := i % 6
			calls := make([][6]uint64, len(values))
			for j, a := range values {
				calls[j] = [6]uint64{v + 1, v + 1, v + 1, v + 1, v + 1, v + 1} // which must not count
				calls[j][index] = a
			}
			rule := fmt.Sprintf("[%d,%#x,%s,%#x]", index, v, op, uint64(mask))
			for j, got := range filtered(t, fmt.Sprintf("2\ndenylist\ngetppid errno %d %s\n", marked, rule), calls) {
				if (got == marked) != want(values[j], v) {
					t.Errorf("%s with %#x gives %d", rule, values[j], got)
				}
			}
		}
	}
}

// TestKernelNeedsEveryCondition: a rule holds when all of its conditions do, and the
// first rule that holds counts.
func TestKernelNeedsEveryCondition(t *testing.T) {
	t.Parallel()
	calls := [][6]uint64{{1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 7}, {0, 2, 3, 4, 5, 6}, {1, 9}, {}}
	want := []syscall.Errno{10, 11, 12, 11, 12}
	got := filtered(t, "2\ndenylist\n[all]\ngetppid errno 12\n"+
		"getppid errno 10 [0,1,==][1,2,==][2,3,==][3,4,==][4,5,==][5,6,==]\ngetppid errno 11 [0,1,>=]\ngetppid errno 13 [0,1,==]\n", calls)
	for i := range calls {
		if got[i] != want[i] {
			t.Errorf("%v gives %d, want %d", calls[i], got[i], want[i])
		}
	}
}

// fatalCalls are what a child does under a filter that ends it.
var fatalCalls = map[string]func(){
	"mkdir": func() { println("survived:", os.Mkdir(os.TempDir()+"/x", 0o700)) },
	"x32":   func() { _, _, _ = syscall.RawSyscall(unix.SYS_GETPPID|x32, 0, 0, 0); println("survived") },
}

// TestKernelEndsProcess is about the actions after which there is no answer.
func TestKernelEndsProcess(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, call, profile, want string }{
		{"kill", "mkdir", "2\ndenylist\nmkdir kill\nmkdirat kill\n", "signal: bad system call"},
		{"trap", "mkdir", "2\ndenylist\nmkdir trap\nmkdirat trap\n", "SIGSYS: bad system call"}, // as Go reports the signal
		{"log", "mkdir", "2\ndenylist\nmkdir log\nmkdirat log\n", "survived"},
	}
	if runtime.GOARCH == "amd64" {
		tests = append(tests, struct{ name, call, profile, want string }{"other numbers", "x32", "2\ndenylist\n", "signal: bad system call"})
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{childEnv + "=" + tc.profile, fatalEnv + "=" + tc.call, "TMPDIR=" + t.TempDir()}
			out, err := cmd.CombinedOutput()
			if got := fmt.Sprint(string(out), err); !strings.Contains(got, tc.want) || tc.want != "survived" && strings.Contains(got, "survived") {
				t.Errorf("%s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestProfileErrors(t *testing.T) {
	t.Parallel()
	_, err := Parse(strings.NewReader("2\ndenylist\n\n# a comment\nread what\nwrite\nopen errno\n[x\nclose kill [6,1,==]\n"))
	for _, line := range []string{"line 5: ", "line 7: ", "line 8: ", "line 9: "} {
		if err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("no error of %q in %v", line, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "line 6") {
		t.Errorf("a good line is named: %v", err)
	}
	for name, text := range map[string]string{
		"line 3":                   "2\ndenylist\nread" + strings.Repeat(" ", maxLine) + "\n",
		"more than six conditions": "2\ndenylist\nread kill " + strings.Repeat("[0,1,==]", 7) + "\n",
		"is not a mask":            "2\ndenylist\nread kill [0,1,&=,x]\n",
		"not a value":              "2\ndenylist\nread kill [0,0x10000000000000000,==]\n",
		"5: ":                      "1\n1\n2\n3\n-4\n",
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%.40q: %v; want %q", text, err, name)
		}
	}
	broken := errors.New("the disk is broken")
	if _, err := Parse(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

func TestSectionsOfThisMachine(t *testing.T) {
	t.Parallel()
	own := map[string][]string{"x86_64": {"amd64", "X86_64"}, "x86": {"i386", "I686"}, "arm64": {"aarch64", "ARM64"}, "arm": {"arm"},
		"mips": {"mips"}, "mipsel": {"mipsel"}, "riscv64": {"riscv64"}}
	for _, a := range arches {
		if len(own[a.name]) == 0 {
			t.Errorf("nobody can name %s in a section", a.name)
		}
		for _, word := range own[a.name] {
			p := parse(t, "2\ndenylist\n["+word+"]\nmount errno 1\n")
			for _, b := range arches {
				want := uint32(actAllow)
				if b.name == a.name {
					want = errno1
				}
				if got := run(t, p, arches, false, call{arch: b.name, name: "mount"}); got != want {
					t.Errorf("[%s] gives %#x on %s, want %#x", word, got, b.name, want)
				}
			}
		}
	}
}

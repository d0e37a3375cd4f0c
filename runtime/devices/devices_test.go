package devices

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const childEnv = "DEVICES_TEST_TRIES"

// TestMain also is the process inside a group: it tries what its environment says.
func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var tries []try
		if err := json.Unmarshal([]byte(text), &tries); err != nil {
			panic(err)
		}
		_ = json.NewEncoder(os.Stdout).Encode(attempt(tries))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// try is one access to one device.
type try struct {
	Node         string // where a node of it is
	Major, Minor uint32
	Access       Access
}

func attempt(tries []try) (ok []bool) {
	for _, t := range tries {
		var err error
		if t.Access == Mknod {
			p := t.Node + ".made"
			err = unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(t.Major, t.Minor)))
			_ = os.Remove(p)
		} else {
			mode := map[Access]int{Read: unix.O_RDONLY, Write: unix.O_WRONLY, Read | Write: unix.O_RDWR}[t.Access]
			var fd int
			if fd, err = unix.Open(t.Node, mode|unix.O_NONBLOCK, 0); err == nil {
				_ = unix.Close(fd)
			}
		}
		if err != nil && err != unix.EPERM {
			panic(err)
		}
		ok = append(ok, err == nil)
	}
	return ok
}

func list(t *testing.T, rules ...string) List {
	t.Helper()
	var l List
	for _, text := range rules {
		r, err := Parse(text[0] == '+', text[1:])
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, r)
	}
	return l
}

// lists are allow (+) and deny (-) rules as configurations have them.
var lists = map[string][]string{
	"nothing said":     nil,
	"all":              {"+a"},
	"none":             {"-a"},
	"usual":            {"-a", "+c *:* m", "+c 1:3 rwm", "+c 1:5 rw", "+c 5:* rwm"},
	"read only":        {"-a", "+c 1:* r"},
	"deny two":         {"-c 1:5 rwm", "-c 1:8 w"},
	"deny then again":  {"-a", "+c 1:3 rw", "-c 1:3 w"},
	"allow in between": {"-c 1:3 rwm", "+a", "-c 1:5 r"},
	"other kind":       {"-b *:* rwm"},
	"last wins":        {"-a", "+c 1:3 rwm", "-c 1:3 rwm", "+c 1:3 r"},
}

// nodes makes nodes to try on a file system of the test's own.
func nodes(t *testing.T) []try {
	t.Helper()
	dir := t.TempDir()
	var tries []try
	for _, minor := range []uint32{3, 5, 8, 9} {
		p := filepath.Join(dir, "1-"+string(rune('0'+minor)))
		if err := unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, minor))); err != nil {
			t.Fatal(err)
		}
		for _, a := range []Access{Mknod, Read, Write, Read | Write} {
			tries = append(tries, try{p, 1, minor, a})
		}
	}
	return tries
}

// run tries from inside a group.
func run(t *testing.T, tries []try, join func(*exec.Cmd) func()) []bool {
	t.Helper()
	text, err := json.Marshal(tries)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=" + string(text)}
	var out, errout bytes.Buffer
	cmd.Stdin = strings.NewReader("") // nil would open /dev/null
	cmd.Stdout, cmd.Stderr = &out, &errout
	done := join(cmd)
	err = cmd.Run()
	done()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errout)
	}
	var ok []bool
	if err := json.Unmarshal(out.Bytes(), &ok); err != nil {
		t.Fatal(err)
	}
	return ok
}

// hierarchy finds where a cgroup file system is mounted.
func hierarchy(t *testing.T, fstype, option string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making control groups needs root")
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if g[0] == fstype && strings.Contains(","+g[2]+",", option) {
			return f[4]
		}
	}
	t.Skipf("no %s %s is mounted on this machine", fstype, option)
	return ""
}

// group makes a group that the test removes.
func group(t *testing.T, top string) string {
	t.Helper()
	dir := filepath.Join(top, "devices-test-"+filepath.Base(filepath.Dir(t.TempDir())))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// kernelHasBPF asks the kernel's symbols whether control groups have eBPF programs.
func kernelHasBPF(t *testing.T) bool {
	t.Helper()
	symbols, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		t.Logf("not known whether the kernel has CONFIG_CGROUP_BPF: %v", err)
	}
	return strings.Contains(string(symbols), " cgroup_bpf_prog_attach\n")
}

func TestKernelObeysProgram(t *testing.T) {
	top := hierarchy(t, "cgroup2", "")
	for name, rules := range lists {
		t.Run(name, func(t *testing.T) {
			dir := group(t, top)
			f, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			l := list(t, rules...)
			if err := l.Attach(int(f.Fd())); err != nil {
				if errors.Is(err, ErrNoBPF) && !kernelHasBPF(t) {
					t.Skipf("this kernel cannot restrict devices: %v", err)
				}
				t.Fatal(err)
			}
			tries := nodes(t)
			ok := run(t, tries, func(c *exec.Cmd) func() {
				c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
				return func() {}
			})
			compare(t, l, tries, ok)
		})
	}
}

// permits reports whether a list allows all kinds of access to a device: the model of what
// the kernel must do.
func (l List) permits(kind byte, major, minor uint32, access Access) bool {
	base, rest := l.effective()
	for bit := Mknod; bit <= Write; bit <<= 1 {
		if access&bit == 0 {
			continue
		}
		ok := base
		for _, r := range rest {
			if r.matches(kind, major, minor) && r.Access&bit != 0 {
				ok = r.Allow
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

func (r Rule) matches(kind byte, major, minor uint32) bool {
	return r.Type == kind && (r.Major == anyNumber || uint32(r.Major) == major) && (r.Minor == anyNumber || uint32(r.Minor) == minor)
}

// compare holds what the kernel did against the list.
func compare(t *testing.T, l List, tries []try, ok []bool) {
	t.Helper()
	for i, tr := range tries {
		want := l.permits('c', tr.Major, tr.Minor, tr.Access)
		if ok[i] != want {
			t.Errorf("%d:%d access %03b: the kernel allows it: %v, the list: %v", tr.Major, tr.Minor, tr.Access, ok[i], want)
		}
	}
}

func TestKernelObeysV1Group(t *testing.T) {
	top := hierarchy(t, "cgroup", ",devices,")
	for name, rules := range lists {
		if name == "deny then again" || name == "last wins" {
			continue // exceptions of exceptions, which v1 counts in its own way
		}
		t.Run(name, func(t *testing.T) {
			dir := group(t, top)
			l := list(t, rules...)
			if err := l.Write(dir); err != nil {
				t.Fatal(err)
			}
			tries := nodes(t)
			ok := run(t, tries, func(c *exec.Cmd) func() {
				// The thread that forks is in the group for a moment, its child stays.
				if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
					t.Fatal(err)
				}
				return func() {
					if err := os.WriteFile(filepath.Join(top, "cgroup.procs"), []byte("0"), 0); err != nil {
						t.Error(err)
					}
				}
			})
			compare(t, l, tries, ok)
		})
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"a": "a", "a *:* rwm": "a", "c 1:3 rwm": "c 1:3 mrw", "b 8:* r": "b 8:* r", " c  *:*  m ": "c *:* m",
	} {
		r, err := Parse(true, text)
		if err != nil || r.String() != want {
			t.Errorf("Parse(%q) = %v, %v; want %s", text, r, err, want)
		}
	}
	for _, bad := range []string{"", "x", "c", "c 1:3", "c 1 rwm", "c 1:x r", "c -1:3 r", "c 1:3 rwx", "c 99999999:1 r", "d 1:3 r", "c 1:3 r w"} {
		if r, err := Parse(true, bad); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", bad, r)
		} else if !strings.Contains(err.Error(), `"`+bad) {
			t.Errorf("the error %q does not name %q", err, bad)
		}
	}
}

func TestRestricts(t *testing.T) {
	for name, want := range map[string]bool{"nothing said": false, "all": false, "none": true, "usual": true, "deny two": true, "allow in between": true} {
		if got := list(t, lists[name]...).Restricts(); got != want {
			t.Errorf("%s: Restricts() = %v", name, got)
		}
	}
	if list(t, "+c 1:3 rwm").Restricts() {
		t.Error("allowing more than everything restricts")
	}
}

// TestEncodeBothOrders holds the bytes of both byte orders against struct bpf_insn.
func TestEncodeBothOrders(t *testing.T) {
	in := []insn{{0x55, major, r1, 2, 0x01020304}}
	if got, want := encode(in, binary.LittleEndian), []byte{0x55, 0x14, 2, 0, 4, 3, 2, 1}; !bytes.Equal(got, want) {
		t.Errorf("little endian % x, want % x", got, want)
	}
	if got, want := encode(in, binary.BigEndian), []byte{0x55, 0x41, 0, 2, 1, 2, 3, 4}; !bytes.Equal(got, want) {
		t.Errorf("big endian % x, want % x", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "c 1:3 rwm", "b *:0 r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(false, text)
		if err != nil {
			return
		}
		again, err := Parse(false, r.String())
		if err != nil && r.Access != 0 || err == nil && again != r {
			t.Errorf("%q becomes %v and then %v, %v", text, r, again, err)
		}
	})
}

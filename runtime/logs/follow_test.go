package logs

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// testRoot is a directory that stands for a container's root.
type testRoot struct {
	t    *testing.T
	s    *Server
	logs string
	root string
}

func newTestRoot(t *testing.T) *testRoot {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("trusted extended attributes need root")
	}
	s, dir := start(t, Options{})
	return &testRoot{t: t, s: s, logs: dir, root: t.TempDir()}
}

// open stands for a process whose root is the directory.
func (j *testRoot) open(name string, flags int) (*os.File, error) {
	if name != "root" {
		return nil, unix.ENOENT
	}
	fd, err := unix.Open(j.root, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (j *testRoot) follow(files ...File) *Follower {
	j.t.Helper()
	f, err := j.s.Follow(Files{Platform: "app", List: files, Open: j.open, Positions: filepath.Join(j.root, "../positions.json")})
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(f.Close)
	return f
}

// add appends to a file of the testRoot and makes it and its directories.
func (j *testRoot) add(name, text string) {
	j.t.Helper()
	path := filepath.Join(j.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		j.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		j.t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err != nil || cerr != nil {
		j.t.Fatal(err, cerr)
	}
}

func (j *testRoot) must(err error) {
	j.t.Helper()
	if err != nil {
		j.t.Fatal(err)
	}
}

// wants waits until a log file holds this.
func (j *testRoot) wants(text string, path ...string) {
	j.t.Helper()
	path = append([]string{j.logs, "0"}, path...)
	got := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		j.s.Flush()
		b, _ := os.ReadFile(filepath.Join(path...))
		if got = string(b); got == text {
			return
		}
	}
	j.t.Fatalf("%s holds %.300q, want %.300q", filepath.Join(path...), got, text)
}

func (j *testRoot) ownLog() string {
	j.s.Flush()
	b, _ := os.ReadFile(filepath.Join(j.logs, "0/pantavisor/pantavisor.log"))
	return string(b)
}

func TestFollowedFiles(t *testing.T) {
	j := newTestRoot(t)
	j.add("var/log/messages", "before\n")
	j.follow(append([]File{{Path: "www/log/access"}}, DefaultFiles()...)...)
	j.wants("before\n", "app/var/log/messages")
	j.add("var/log/messages", "one\ntwo\n")
	j.wants("before\none\ntwo\n", "app/var/log/messages")
	j.add("www/log/access", "late file in late directories\n")
	j.wants("late file in late directories\n", "app/www/log/access")
	j.add("var/log/syslog", "beginning")
	j.wants("beginning", "app/var/log/syslog")
	j.add("var/log/syslog", " and end\n")
	j.wants("beginning and end\n", "app/var/log/syslog")
}

// TestFollowSkipsHoles: a file of any size takes a container no storage.
func TestFollowSkipsHoles(t *testing.T) {
	j := newTestRoot(t)
	j.add("var/log/sparse", "first\n")
	path := filepath.Join(j.root, "var/log/sparse")
	j.follow(File{Path: "/var/log/sparse"})
	j.wants("first\n", "app/var/log/sparse")
	if err := os.Truncate(path, 8<<30); err != nil {
		t.Fatal(err)
	}
	j.add("var/log/sparse", "last\n")
	var text string
	for end := time.Now().Add(time.Minute); !strings.HasSuffix(text, "last\n"); time.Sleep(2 * time.Millisecond) {
		j.s.Flush()
		b, _ := os.ReadFile(filepath.Join(j.logs, "0/app/var/log/sparse"))
		if text = string(b); time.Now().After(end) || len(b) > 1<<20 {
			t.Fatalf("a hole of 8 GiB has put %d bytes into the log", len(b))
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Fatalf("the test's file is not sparse: %v", err)
	}
}

func TestFollowRotation(t *testing.T) {
	j := newTestRoot(t)
	j.add("var/log/messages", "1\n")
	j.follow(DefaultFiles()...)
	j.wants("1\n", "app/var/log/messages")
	path := filepath.Join(j.root, "var/log/messages")
	// Renamed and made anew, with a last line for the old one.
	old, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	j.must(err)
	defer old.Close()
	j.must(os.Rename(path, path+".1"))
	_, err = old.WriteString("2\n")
	j.must(err)
	j.add("var/log/messages", "3\n")
	j.wants("1\n2\n3\n", "app/var/log/messages")
	// Emptied in place.
	j.must(os.Truncate(path, 0))
	j.add("var/log/messages", "4\n")
	j.wants("1\n2\n3\n4\n", "app/var/log/messages")
	// Another file moved over it.
	j.add("var/log/next", "5\n")
	j.must(os.Rename(filepath.Join(j.root, "var/log/next"), path))
	j.wants("1\n2\n3\n4\n5\n", "app/var/log/messages")
	// Removed with its directory, and made again.
	j.must(os.RemoveAll(filepath.Join(j.root, "var")))
	j.add("var/log/messages", "6\n")
	j.wants("1\n2\n3\n4\n5\n6\n", "app/var/log/messages")
}

func TestFollowGoesOnWhereItWas(t *testing.T) {
	dirs := map[string]string{"attribute": t.TempDir(), "side file": ramfs(t)}
	for how, dir := range dirs {
		t.Run(how, func(t *testing.T) {
			j := newTestRoot(t)
			j.root = filepath.Join(dir, "root")
			j.add("var/log/messages", "old\n")
			f := j.follow(DefaultFiles()...)
			j.wants("old\n", "app/var/log/messages")
			j.add("var/log/messages", "at the end")
			f.Close()
			f.Close()
			j.wants("old\nat the end", "app/var/log/messages")
			j.add("var/log/messages", "\nmeanwhile\n")
			f = j.follow(DefaultFiles()...)
			j.wants("old\nat the end\nmeanwhile\n", "app/var/log/messages")
			f.Close()
			value := make([]byte, 32)
			n, err := unix.Getxattr(filepath.Join(j.root, "var/log/messages"), "trusted.pv.logger.pos", value)
			if how == "attribute" && (err != nil || string(value[:n]) != "25") {
				t.Errorf("the attribute is %q, %v, want 25", value[:max(n, 0)], err)
			}
			if how != "attribute" && err == nil {
				t.Error("this file system has attributes, the test proves nothing")
			}
			// Another file of the same name is read from its beginning.
			j.must(os.Remove(filepath.Join(j.root, "var/log/messages")))
			j.add("var/log/messages", strings.Repeat("new\n", 10))
			j.follow(DefaultFiles()...)
			j.wants("old\nat the end\nmeanwhile\n"+strings.Repeat("new\n", 10), "app/var/log/messages")
		})
	}
}

// ramfs mounts a file system without extended attributes.
func ramfs(t *testing.T) string {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "ramfs", 0, ""); err != nil {
		t.Skipf("mounting a ramfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestFollowStaysInTheContainer(t *testing.T) {
	j := newTestRoot(t)
	secret := filepath.Join(t.TempDir(), "shadow")
	j.must(os.WriteFile(secret, []byte("of the host\n"), 0o600))
	j.must(os.MkdirAll(filepath.Join(j.root, "var/log"), 0o755))
	j.must(os.MkdirAll(filepath.Join(j.root, "proc"), 0o755))
	j.must(unix.Mount("proc", filepath.Join(j.root, "proc"), "proc", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(j.root, "proc"), unix.MNT_DETACH) })
	at := func(name string) string { return filepath.Join(j.root, "var/log", name) }
	j.must(os.Symlink(secret, at("absolute")))
	j.must(os.Symlink(strings.Repeat("../", 20)+secret, at("relative")))
	j.must(os.Symlink("/proc/self/root"+secret, at("magic")))
	j.must(os.Symlink("/proc/self/status", at("kernel")))
	j.must(unix.Mkfifo(at("fifo"), 0o644))
	j.must(unix.Mknod(at("device"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))))
	j.must(os.Mkdir(at("directory"), 0o755))
	j.must(os.Symlink("/etc/inside", at("fine")))
	j.add("etc/inside", "of the container\n")
	var list []File
	for _, name := range []string{"absolute", "relative", "magic", "kernel", "fifo", "device", "directory", "fine"} {
		list = append(list, File{Path: "/var/log/" + name})
	}
	list = append(list, File{Path: "../../.." + secret})
	j.follow(list...)
	j.wants("of the container\n", "app/var/log/fine")
	got, _ := filepath.Glob(filepath.Join(j.logs, "0/app/*/*/*"))
	more, _ := filepath.Glob(filepath.Join(j.logs, "0/app/tmp/*"))
	if got = append(got, more...); len(got) != 1 {
		t.Errorf("these were read: %q", got)
	}
	own := j.ownLog()
	for name, why := range map[string]string{"fifo": "not a plain file", "device": "not a plain file", "directory": "not a plain file", "kernel": "file system of type proc"} {
		if !strings.Contains(own, "log file /var/log/"+name+" of app: it is") || !strings.Contains(own, why) {
			t.Errorf("nothing is said about %s: %s", name, own)
		}
	}
}

func TestFollowTruncates(t *testing.T) {
	j := newTestRoot(t)
	j.must(os.MkdirAll(filepath.Join(j.root, "var/log"), 0o755))
	j.must(os.Symlink("/etc/precious", filepath.Join(j.root, "var/log/link")))
	j.add("etc/precious", strings.Repeat("p", 200)+"\n")
	j.add("var/log/big", strings.Repeat("b", 200)+"\n")
	j.add("var/log/small", "s\n")
	j.add("var/log/kept", strings.Repeat("k", 200)+"\n")
	f := j.follow(File{"/var/log/big", 100, true}, File{"/var/log/small", 100, true}, File{"/var/log/link", 100, true}, File{"/var/log/kept", 100, false})
	j.wants(strings.Repeat("b", 200)+"\n", "app/var/log/big")
	j.wants(strings.Repeat("p", 200)+"\n", "app/var/log/link")
	for size := int64(-1); size != 0; time.Sleep(time.Millisecond) {
		st, err := os.Stat(filepath.Join(j.root, "var/log/big"))
		j.must(err)
		size = st.Size()
	}
	j.add("var/log/big", "after\n")
	j.wants(strings.Repeat("b", 200)+"\nafter\n", "app/var/log/big")
	f.Close()
	for name, size := range map[string]int64{"etc/precious": 201, "var/log/small": 2, "var/log/kept": 201, "var/log/big": 6} {
		if st, err := os.Stat(filepath.Join(j.root, name)); err != nil || st.Size() != size {
			t.Errorf("%s has %d bytes, want %d (%v)", name, st.Size(), size, err)
		}
	}
	if own := j.ownLog(); !strings.Contains(own, "log file /var/log/link of app: emptying the file: its name is a symbolic link") {
		t.Errorf("nothing is said about the link: %s", own)
	}
}

func TestFollowLosesNothingOfAFlood(t *testing.T) {
	j := newTestRoot(t)
	j.follow(DefaultFiles()...)
	var want strings.Builder
	for n := range 40 {
		var part strings.Builder
		for i := range 500 {
			fmt.Fprintf(&part, "%d.%d %s\n", n, i, strings.Repeat("f", 100))
		}
		j.add("var/log/messages", part.String())
		want.WriteString(part.String())
	}
	long := strings.Repeat("l", 5*followPiece) + "\n"
	j.add("var/log/messages", long)
	j.wants(want.String()+long, "app/var/log/messages")
	if own := j.ownLog(); strings.Contains(own, "lost") {
		t.Errorf("lines were lost: %s", own)
	}
}

// TestFollowSeesMounts follows the files of a process that mounts over its directory.
func TestFollowSeesMounts(t *testing.T) {
	j := newTestRoot(t)
	j.add("var/log/messages", "below\n")
	cmd := exec.Command(oracle.Program(t, "unshare"), "-m", "sh", "-c", `read x; mount -t tmpfs none "$1"; read x; echo above >"$1/messages"; read x`, "sh", filepath.Join(j.root, "var/log"))
	in, err := cmd.StdinPipe()
	j.must(err)
	if err := cmd.Start(); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	ours, err := os.Readlink("/proc/self/ns/mnt")
	j.must(err)
	for theirs := ours; theirs == ours; time.Sleep(time.Millisecond) {
		theirs, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
		j.must(err)
	}
	f, err := j.s.Follow(Files{
		Platform: "app", List: []File{{Path: filepath.Join(j.root, "var/log/messages")}},
		Open: func(name string, flags int) (*os.File, error) {
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name), flags|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			return os.NewFile(uintptr(fd), name), nil
		},
	})
	j.must(err)
	defer f.Close()
	path := filepath.Join("app", j.root, "var/log/messages")
	j.wants("below\n", path)
	_, err = io.WriteString(in, "mount\n")
	j.must(err)
	_, err = io.WriteString(in, "write\n")
	j.must(err)
	j.wants("below\nabove\n", path)
}

func TestFollowIsBounded(t *testing.T) {
	j := newTestRoot(t)
	var list []File
	for i := range maxFollowed + 1 {
		list = append(list, File{Path: fmt.Sprint("/log/", i)})
	}
	if _, err := j.s.Follow(Files{Platform: "app", List: list, Open: j.open}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%d files: %v", len(list), err)
	}
	f := j.follow(File{Path: "/a"}, File{Path: "a/../a"}, File{Path: "/"})
	if len(f.files) != 1 {
		t.Errorf("%d files are followed, want one", len(f.files))
	}
	j.s.Close()
	if _, err := j.s.Follow(Files{Platform: "app", Open: j.open}); err == nil {
		t.Error("a closed server follows")
	}
	if len(j.s.followers.all) != 0 {
		t.Errorf("%d followers are left", len(j.s.followers.all))
	}
}

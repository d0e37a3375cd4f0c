// Guest is the init of the containers that the tests start: its first word says
// what it does.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		os.Args = append(os.Args, "wait")
	}
	switch os.Args[1] {
	case "wait": // obeys
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGPWR)
		fmt.Println("waiting")
		fmt.Println("got", <-c)
	case "deaf": // does not obey
		signal.Ignore(syscall.SIGTERM, syscall.SIGPWR)
		fmt.Println("deaf")
		time.Sleep(time.Hour)
	case "exit":
		n, _ := strconv.Atoi(os.Args[2])
		os.Exit(n)
	case "hook": // as a hook of the container: notes what it is told
		text := os.Getenv("LXC_NAME") + " " + os.Getenv("LXC_HOOK_TYPE") + " " + os.Getenv("LXC_HOOK_VERSION")
		if os.WriteFile(os.Args[2], []byte(text), 0o644) != nil || len(os.Args) > 3 {
			os.Exit(1)
		}
	case "fifo": // makes one in place of a file, then waits
		_ = os.MkdirAll(filepath.Dir(os.Args[2]), 0o755)
		_ = os.Remove(os.Args[2])
		fmt.Println(syscall.Mkfifo(os.Args[2], 0o644))
		time.Sleep(time.Hour)
	case "rights": // notes what this process, and every thread of process 1, may do
		rights(os.Args[2])
		if os.Getpid() == 1 {
			fmt.Println("noted")
			time.Sleep(time.Hour)
		}
	case "crash": // lives a little
		d, _ := time.ParseDuration(os.Args[2])
		time.Sleep(d)
		os.Exit(1)
	case "probe":
		probe(os.Args[2:])
	case "stay": // probes, then stays and obeys
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		probe(os.Args[2:])
		<-c
	}
}

// rights writes a file with what the kernel says of this process and, if it is another
// one, of every thread of process 1; each line once.
func rights(path string) {
	lines := map[string]bool{}
	files, _ := filepath.Glob("/proc/1/task/*/status")
	for _, f := range append(files, "/proc/self/status") {
		text, _ := os.ReadFile(f)
		for _, l := range strings.Split(string(text), "\n") {
			for _, key := range []string{"Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp"} {
				if strings.HasPrefix(l, key) || strings.HasPrefix(l, "Cap") {
					lines[l] = true
				}
			}
		}
	}
	groups, _ := os.ReadFile("/proc/self/cgroup")
	for _, l := range strings.Split(string(groups), "\n") {
		lines[l] = true
	}
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	lines[fmt.Sprint("hard limit of files ", limit.Max)] = true
	for _, word := range []string{"mkdir:/tmp/made", "mknod:/tmp/node,1,5"} {
		lines[word+" "+try(word)] = true
		_ = os.Remove("/tmp/made")
		_ = os.Remove("/tmp/node")
	}
	sorted := slices.Sorted(maps.Keys(lines))
	_ = os.WriteFile(path, []byte(strings.Join(sorted, "\n")), 0o644)
}

// report is what a container sees of itself.
type report struct {
	PID      int
	Args     []string
	Env      []string
	Cwd      string
	Hostname string
	Status   map[string]string
	Cgroup   string
	Mounts   []string
	Dev      []string
	Tty      string
	Tried    map[string]string
}

// probe prints a report; each word is something to try: "write:PATH", "read:PATH", "list:PATH".
func probe(words []string) {
	r := report{PID: os.Getpid(), Args: os.Args, Env: os.Environ(), Status: status(), Tried: map[string]string{}}
	r.Cwd, _ = os.Getwd()
	r.Hostname, _ = os.Hostname()
	r.Tty, _ = os.Readlink("/proc/self/fd/0")
	cg, _ := os.ReadFile("/proc/self/cgroup")
	for _, l := range strings.Split(string(cg), "\n") {
		if strings.HasPrefix(l, "0::") {
			r.Cgroup = l[3:]
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	r.Mounts = strings.Split(strings.TrimSpace(string(mounts)), "\n")
	entries, _ := os.ReadDir("/dev")
	for _, e := range entries {
		r.Dev = append(r.Dev, e.Name())
	}
	for _, w := range words {
		r.Tried[w] = try(w)
	}
	b, _ := json.Marshal(r)
	fmt.Printf("%s\n", b)
}

func try(word string) string {
	what, path, _ := strings.Cut(word, ":")
	var err error
	switch what {
	case "write":
		err = os.WriteFile(path, []byte("1\n"), 0o644)
	case "read":
		var b []byte
		if b, err = os.ReadFile(path); err == nil {
			return string(b)
		}
	case "open": // for reading and writing, as "open:PATH"; without reading a byte
		var f *os.File
		if f, err = os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0); err == nil {
			_ = f.Close()
		}
	case "mknod": // mknod:PATH,MAJOR,MINOR
		f := append(strings.Split(path, ","), "0", "0")
		major, _ := strconv.Atoi(f[1])
		minor, _ := strconv.Atoi(f[2])
		err = syscall.Mknod(f[0], syscall.S_IFCHR|0o600, major<<8|minor)
	case "net": // the interfaces: name, state, addresses without those of the link
		return interfaces()
	case "dial": // dial:HOST:PORT; as whom the other end sees this one
		var c net.Conn
		if c, err = net.DialTimeout("tcp", path, 30*time.Second); err == nil {
			b, _ := io.ReadAll(c)
			_ = c.Close()
			return string(b)
		}
	case "keyring": // the serial number of the session keyring (keyctl(2), KEYCTL_GET_KEYRING_ID)
		id, _, errno := syscall.Syscall(syscall.SYS_KEYCTL, 0, ^uintptr(2), 0)
		if errno == 0 {
			return strconv.Itoa(int(int32(id)))
		}
		err = errno
	case "chmod": // to the mode that devices and sockets for everybody have
		err = os.Chmod(path, 0o666)
	case "mkdir":
		err = os.Mkdir(path, 0o755)
	case "say": // say:PATH,TEXT to a terminal
		p, text, _ := strings.Cut(path, ",")
		var f *os.File
		if f, err = os.OpenFile(p, os.O_WRONLY|syscall.O_NOCTTY, 0); err == nil {
			_, err = f.WriteString(text)
			_ = f.Close()
		}
	case "list":
		var e []os.DirEntry
		if e, err = os.ReadDir(path); err == nil {
			var names []string
			for _, x := range e {
				names = append(names, x.Name())
			}
			return strings.Join(names, " ")
		}
	case "mount":
		err = syscall.Mount("none", path, "tmpfs", 0, "")
	case "ask": // ask:METHOD,PATH,BODY
		return ask(path)
	case "log":
		var c net.Conn
		if c, err = net.Dial("unixgram", "/dev/log"); err == nil {
			_, err = c.Write([]byte(path))
			_ = c.Close()
		}
	case "join": // join:GROUP; moves this process to the group of that name in the tree that it can mount
		err = join(path)
	case "kill":
		pid, _ := strconv.Atoi(path)
		err = syscall.Kill(pid, 0)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return "ok"
}

// join mounts the tree of the control groups and moves this process to a group.
func join(name string) error {
	const at = "/run/tree"
	_ = os.Mkdir(at, 0o755)
	err := syscall.Mount("none", at, "cgroup2", 0, "")
	if err != nil {
		err = syscall.Mount("none", at, "cgroup", 0, "none,name=pantavisor")
	}
	if err != nil {
		return err
	}
	err = errors.New("no such group")
	_ = filepath.WalkDir(at, func(p string, d os.DirEntry, _ error) error {
		if d != nil && d.IsDir() && filepath.Base(p) == name {
			err = os.WriteFile(p+"/cgroup.procs", []byte("0"), 0)
		}
		return nil
	})
	return err
}

func interfaces() string {
	list, err := net.Interfaces()
	if err != nil {
		return "error: " + err.Error()
	}
	var out []string
	for _, i := range list {
		addrs, _ := i.Addrs()
		var text []string
		for _, a := range addrs {
			if !strings.HasPrefix(a.String(), "fe80") {
				text = append(text, a.String())
			}
		}
		out = append(out, fmt.Sprintf("%s %v %s %v", i.Name, i.Flags&net.FlagUp != 0, i.HardwareAddr, text))
	}
	return strings.Join(out, "; ")
}

// ask sends a request to the control socket and returns the status with the body.
func ask(what string) string {
	f := strings.SplitN(what+",,", ",", 3)
	body := strings.TrimRight(f[2], ",")
	c, err := net.Dial("unix", "/pantavisor/pv-ctrl")
	if err != nil {
		return "error: " + err.Error()
	}
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", f[0], f[1], len(body), body)
	b, _ := io.ReadAll(c)
	head, text, _ := strings.Cut(string(b), "\r\n\r\n")
	line, _, _ := strings.Cut(head, "\r\n")
	if w := strings.Fields(line); len(w) > 1 {
		return w[1] + " " + text
	}
	return "error: no answer"
}

func status() map[string]string {
	m := map[string]string{}
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return m
	}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		k, v, _ := strings.Cut(sc.Text(), ":")
		m[k] = strings.TrimSpace(v)
	}
	return m
}

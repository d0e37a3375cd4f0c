package vm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// storage is the ext4 of a copied image, opened with e2fsprogs.
type storage struct {
	t     *testing.T
	image string
	start int64 // bytes
}

// damaged copies an image, so that its storage can be written to.
func damaged(t *testing.T, w *workspace.Maker) *storage {
	t.Helper()
	oracle.Need(t, "debugfs")
	parts := w.Target.Images[0].Partitions
	s := &storage{t, filepath.Join(t.TempDir(), "damaged.img"), int64(parts[len(parts)-1].Start)}
	if out, err := exec.Command("cp", "--sparse=always", image(t, w), s.image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, os.Chmod(s.image, 0o600))
	return s
}

// do runs one command of debugfs.
func (s *storage) do(command string) string {
	s.t.Helper()
	cmd := exec.Command("debugfs", "-w", "-R", command, s.image+"?offset="+strconv.FormatInt(s.start, 10))
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if lines := strings.Split(strings.TrimSpace(said.String()), "\n"); err != nil || len(lines) > 1 { // the first is the version
		s.t.Fatalf("debugfs %s: %v\n%s", command, err, &said)
	}
	return string(out)
}

// replace gives a file other content.
func (s *storage) replace(path, content string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "content")
	must(s.t, os.WriteFile(file, []byte(content), 0o644))
	s.do("rm " + path)
	s.do("write " + file + " " + path)
}

// spoil overwrites the first block of a file under all its names.
func (s *storage) spoil(path string) {
	s.t.Helper()
	const size = 4096
	block, err := strconv.ParseInt(strings.TrimSpace(s.do("bmap "+path+" 0")), 10, 64)
	must(s.t, err)
	overwrite(s.t, s.image, s.start+block*size, size)
}

// overwrite spoils a part of a file.
func overwrite(t *testing.T, file string, start int64, size int) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{'x'}, size), start)
	must(t, err)
	must(t, f.Close())
}

// object is the digest that revision 0 has for a path.
func (s *storage) object(path string) string {
	s.t.Helper()
	st, err := state.Parse([]byte(s.do("cat /trails/0/.pvr/json")))
	must(s.t, err)
	for _, o := range st.Objects() {
		if o.Path == path {
			return o.Sum
		}
	}
	s.t.Fatalf("revision 0 has no object %s", path)
	return ""
}

// containing finds lines with a text.
func containing(text string) func(string) bool {
	return func(line string) bool { return strings.Contains(line, text) }
}

// calm wants a console without a panic of kernel or runtime.
func calm(t *testing.T, d *Device) {
	t.Helper()
	for _, line := range d.Console.Tail(400) {
		if strings.Contains(line, "Kernel panic") || strings.Contains(line, "panic:") || strings.Contains(line, "goroutine ") {
			t.Errorf("on the console: %s", line)
		}
	}
}

// TestDamagedObjects boots a storage in which the object of one container is gone
// and that of another has other content: the API gives the reason of each, the log
// too, and the device can be reached and powered off. GRUB's environment block is damaged
// too, so that revision 0 runs.
func TestDamagedObjects(t *testing.T) {
	w := open(t)
	s := damaged(t, w)
	s.do("rm /objects/" + s.object("network/root.squashfs"))
	s.do("rm /trails/0/network/root.squashfs")
	s.spoil("/trails/0/sdk/root.squashfs")
	s.replace("/boot/grubenv", strings.Repeat("\x00\xff\n=pv_try\x80", 80))
	d := boot(t, w, s.image, t.TempDir())
	cs, err := d.WaitContainers(within(t), func(cs []api.Container) bool {
		reasons := 0
		for _, c := range cs {
			if c.StatusReason != "" {
				reasons++
			}
		}
		return reasons == 2
	})
	if err != nil {
		t.Fatalf("%v; last answer %+v", err, cs)
	}
	for _, c := range cs {
		t.Logf("%s is %s: %s", c.Name, c.Status, c.StatusReason)
		if c.Status == "STARTED" {
			t.Errorf("%s runs from a damaged object", c.Name)
		}
		waitLog(t, d, "the reason of "+c.Name, containing(c.StatusReason))
	}
	if out := run(t, d, "cat /proc/cmdline"); !strings.Contains(out+" ", "pv_rev=0 ") {
		t.Errorf("the kernel was told %s", out)
	}
	calm(t, d)
	must(t, d.leaveShell(within(t)))
	asked := d.API.Command(within(t), api.OpPowerOff, "test") // it may be off before it has answered
	if err := d.Wait(within(t)); err != nil {
		t.Fatalf("%v; asked: %v", err, asked)
	}
	checkStorage(t, d.Disk(), "clean")
}

// TestDamagedState boots a storage whose state is cut short, and GRUB's environment block too:
// the device comes up far enough to be asked, and its log says why nothing runs.
func TestDamagedState(t *testing.T) {
	w := open(t)
	s := damaged(t, w)
	s.replace("/trails/0/.pvr/json", `{"#spec": "pantavisor-serv`)
	s.replace("/boot/grubenv", "# GRUB Environment Block\npv_rev=../../x")
	d := boot(t, w, s.image, t.TempDir())
	waitAnswer(t, d, "state JSON has bad format")
	waitLog(t, d, "what is wrong with the state", containing("state JSON has bad format"))
	if out := run(t, d, "cat /proc/cmdline"); !strings.Contains(out+" ", "pv_rev=0 ") {
		t.Errorf("the kernel was told %s", out)
	}
	calm(t, d)
}

// waitAnswer asks for the containers until the API refuses with a reason.
func waitAnswer(t *testing.T, d *Device, reason string) {
	t.Helper()
	ctx := within(t)
	for {
		ask, cancel := context.WithTimeout(ctx, 5*time.Second) // who asks before the port is served has no answer
		_, err := d.API.Containers(ask)
		cancel()
		if err != nil && strings.Contains(err.Error(), reason) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the API does not say %q: %v", reason, err)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// fill leaves next to no block of the storage free.
func (s *storage) fill() {
	s.t.Helper()
	empty := filepath.Join(s.t.TempDir(), "empty")
	must(s.t, os.WriteFile(empty, nil, 0o644))
	s.do("write " + empty + " /full")
	free := regexp.MustCompile(`(?m)^Free blocks:\s+(\d+)$`).FindStringSubmatch(s.do("show_super_stats -h"))
	if free == nil {
		s.t.Fatal("debugfs does not say how many blocks are free")
	}
	n, err := strconv.ParseInt(free[1], 10, 64)
	must(s.t, err)
	s.do("fallocate /full 0 " + strconv.FormatInt(n-32, 10)) // some are for the file's own extents
}

// TestFullStorage boots a storage without room: the container that writes nothing
// runs, that with volumes to make has its reason on API and console (no log can be
// kept), and the device can be powered off.
func TestFullStorage(t *testing.T) {
	w := open(t)
	s := damaged(t, w)
	s.fill()
	d := boot(t, w, s.image, t.TempDir())
	cs, err := d.WaitContainers(within(t), func(cs []api.Container) bool {
		return status(cs, "network") == "STARTED" && slices.ContainsFunc(cs, func(c api.Container) bool { return c.StatusReason != "" })
	})
	if err != nil {
		t.Fatalf("%v; last answer %+v", err, cs)
	}
	for _, c := range cs {
		if c.Name == "sdk" && (c.Status == "STARTED" || !strings.Contains(c.StatusReason, "no space left on device")) {
			t.Errorf("sdk is %s: %q", c.Status, c.StatusReason)
		}
	}
	if _, err := d.Console.Expect(within(t), "container sdk did not reach STARTED"); err != nil {
		t.Errorf("the console does not say why sdk is not started: %v", err)
	}
	calm(t, d)
	asked := d.API.Command(within(t), api.OpPowerOff, "test") // it may be off before it has answered
	if err := d.Wait(within(t)); err != nil {
		t.Fatalf("%v; asked: %v", err, asked)
	}
	checkStorage(t, d.Disk(), "clean")
}

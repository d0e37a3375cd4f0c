package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/appengine"
)

// memory is where the storage of measured instances lies.
const memory = "/dev/shm"

// appEngine measures instances on a storage in memory that holds nothing but
// revision 0.
func appEngine(ctx context.Context, root string) ([]Row, error) {
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Missing, "measuring the App Engine: containers need root")
	}
	target, err := appengine.HostTarget(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	maker, err := workspace.OpenMaker(ctx, root, target, nil)
	if err != nil {
		return nil, err
	}
	var wall, cpu, pss, more, stop []float64
	for range runs {
		s, err := measureInstance(ctx, maker, "app", "talker")
		if err != nil {
			return nil, err
		}
		wall, cpu, stop = append(wall, s.wall), append(cpu, s.cpu), append(stop, s.stop)
	}
	for range runs {
		few, err := measureInstance(ctx, maker, names(4)...)
		if err != nil {
			return nil, err
		}
		many, err := measureInstance(ctx, maker, names(4+others)...)
		if err != nil {
			return nil, err
		}
		pss, more = append(pss, few.pss), append(more, (many.pss-few.pss)/others)
	}
	return []Row{
		row("App Engine: start to two containers STARTED", "ms wall", 60, wall, "from exec to the engine's word, storage in memory"),
		row("App Engine: start to two containers STARTED", "CPU ms", 60, cpu, "the process and the containers' first stages"),
		row("App Engine with four containers", "MB PSS", 9, pss, "smaps_rollup of its one process"),
		row("each further container", "MB PSS", 0.1, more, fmt.Sprintf("of %d more", others)),
		row("stop of a container that obeys", "ms wall", 100, stop, "from the request until the API says STOPPED; its init is a shell"),
	}, nil
}

// others are how many containers tell what each further one takes.
const others = 20

// names are containers: app, talker, and more of the first kind.
func names(n int) []string {
	list := []string{"app", "talker"}
	for i := len(list); i < n; i++ {
		list = append(list, fmt.Sprint("app", i))
	}
	return list
}

// sample is one start.
type sample struct {
	wall, cpu, stop float64 // milliseconds
	pss             float64 // MB
}

// measureInstance starts an instance with containers that are all the application
// of the tests under other names, or talker.
func measureInstance(ctx context.Context, maker *workspace.Maker, names ...string) (s sample, err error) {
	work, err := os.MkdirTemp(memory, "bench-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(work)
	suites := filepath.Join(maker.Root, filepath.FromSlash(appengine.Suites))
	t := &appengine.Test{Dir: work, Spec: &appengine.Spec{Setup: appengine.Setup{Config: filepath.Join(suites, "local/common/configs/pantavisor.config")}}}
	for _, name := range names {
		from := filepath.Join(suites, "common/containers", name)
		if _, err := os.Stat(from); err != nil {
			from = filepath.Join(suites, "common/containers/app")
		}
		link := filepath.Join(work, name)
		if err := os.Symlink(from, link); err != nil {
			return s, err
		}
		t.Spec.Setup.Containers.Tarballs = append(t.Spec.Setup.Containers.Tarballs, link)
	}
	prefix, err := appengine.Install(ctx, maker, t, work)
	if err != nil {
		return s, err
	}
	return startInstance(ctx, prefix)
}

// startInstance takes the time from exec to the engine's word that all containers
// have reached their goals.
func startInstance(ctx context.Context, prefix string) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(prefix, "pantavisor"), "-i")
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return s, err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "ready: all") {
			s.wall = float64(time.Since(start).Microseconds()) / 1000
			break
		}
	}
	own, err := processTime(cmd.Process.Pid)
	if err == nil {
		var stages float64
		stages, err = groupTime(prefix)
		s.cpu = own + stages
	}
	if err == nil {
		s.pss, err = settledPSS(ctx, cmd.Process.Pid)
	}
	if err == nil {
		s.stop, err = stopTime(ctx, filepath.Join(prefix, "run/pv/pv-ctrl"), "app")
	}
	cancel()
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if s.wall == 0 {
		return s, fmt.Errorf("the containers in %s did not reach their goals", prefix)
	}
	return s, err
}

// stopTime stops a container over the control socket and returns the milliseconds
// until it is STOPPED.
func stopTime(ctx context.Context, socket, name string) (float64, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	start := time.Now()
	if _, err := request(ctx, client, http.MethodPut, "/containers/"+name, `{"action":"stop"}`); err != nil {
		return 0, err
	}
	for {
		body, err := request(ctx, client, http.MethodGet, "/containers", "")
		if err != nil {
			return 0, err
		}
		var list []struct{ Name, Status string }
		if err := json.Unmarshal(body, &list); err != nil {
			return 0, fmt.Errorf("reading the list of containers: %w", err)
		}
		for _, c := range list {
			if c.Name == name && c.Status == "STOPPED" {
				return float64(time.Since(start).Microseconds()) / 1000, nil
			}
		}
	}
}

// request asks the control socket and returns the body of a good answer.
func request(ctx context.Context, client *http.Client, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	return text, err
}

// processTime is what a process has used so far, in milliseconds
// (/proc/PID/schedstat: nanoseconds of each of its threads).
func processTime(pid int) (float64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("reading the time of process %d: it has none", pid)
	}
	sum := 0.0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseFloat(strings.Fields(string(text) + " x")[0], 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", f, err)
		}
		sum += ns / 1e6
	}
	return sum, nil
}

// groupTime is what an instance's containers have used, in milliseconds (cpu.stat).
func groupTime(prefix string) (float64, error) {
	note, err := os.ReadFile(filepath.Join(prefix, "run", "pv.json"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(note), `"cgroup":"`)
	group, _, _ := strings.Cut(rest, `"`)
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		text, err := os.ReadFile(filepath.Join(root, group, "cpu.stat"))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(text), "usage_usec ")
		us, err := strconv.ParseFloat(strings.Fields(after + " x")[0], 64)
		return us / 1000, err
	}
	return 0, fmt.Errorf("reading what the containers have used: %s has no cpu.stat", group)
}

// settledPSS is a process's share of memory once it does nothing any more.
func settledPSS(ctx context.Context, pid int) (float64, error) {
	select {
	case <-time.After(2 * time.Second): // the collector's own pace
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), "\nPss:")
	if !ok {
		return 0, fmt.Errorf("reading the memory of process %d: no Pss", pid)
	}
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib * 1024 / 1e6, err
}

package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/test/appengine"
)

// updates measures updates of an instance, without a commit delay.
func updates(ctx context.Context, root string) ([]Row, error) {
	target, err := appengine.HostTarget(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	maker, err := workspace.OpenMaker(ctx, root, target, nil)
	if err != nil {
		return nil, err
	}
	var all [3][]float64
	var cpu []float64
	for range runs {
		took, used, err := measureUpdates(ctx, maker)
		if err != nil {
			return nil, err
		}
		for i, s := range took {
			all[i] = append(all[i], s)
		}
		cpu = append(cpu, used)
	}
	const from = "from LOCAL_RUN, storage in memory, PV_UPDATER_COMMIT_DELAY=0"
	return []Row{
		row("update of an app to UPDATED", "s wall", 0.3, all[0], from+"; the app's init is a shell that obeys"),
		row("update of an app to UPDATED", "CPU s", 0.3, cpu, "the runtime alone"),
		row("added app to UPDATED", "s wall", 0.25, all[1], from),
		row("update with a restart to DONE", "s wall", 2, all[2], "from LOCAL_RUN_COMMIT, the same; stop, new run of the runtime, start, commit"),
	}, nil
}

// instance is an App Engine that runs, with its state.
type instance struct {
	prefix string
	cmd    *exec.Cmd
	client *http.Client
	st     *state.State
}

// measureUpdates changes an app, adds one, and changes one with a restart. It returns the seconds that each took, and the CPU seconds of the first.
func measureUpdates(ctx context.Context, maker *workspace.Maker) (took [3]float64, cpu float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	work, err := os.MkdirTemp(memory, "bench-")
	if err != nil {
		return took, 0, err
	}
	defer os.RemoveAll(work)
	i, err := install(ctx, maker, work)
	if err != nil {
		return took, 0, err
	}
	stop, err := i.start(ctx)
	if err != nil {
		return took, 0, err
	}
	defer stop()
	before, err := processTime(i.cmd.Process.Pid)
	if err != nil {
		return took, 0, err
	}
	for n, step := range []struct {
		change     func(context.Context) error
		op, status string
	}{
		{i.edit, api.OpLocalRun, "UPDATED"},
		{i.double, api.OpLocalRun, "UPDATED"},
		{i.edit, api.OpLocalRunCommit, "DONE"},
	} {
		if err := step.change(ctx); err != nil {
			return took, 0, err
		}
		if took[n], err = i.update(ctx, fmt.Sprint("locals/", n), step.op, step.status); err != nil {
			return took, 0, err
		}
		if n == 0 {
			after, err := processTime(i.cmd.Process.Pid)
			if err != nil {
				return took, 0, err
			}
			cpu = (after - before) / 1000
		}
	}
	return took, cpu, nil
}

// install makes an instance with two containers, of which none takes time to become stable.
func install(ctx context.Context, maker *workspace.Maker, work string) (*instance, error) {
	suites := filepath.Join(maker.Root, filepath.FromSlash(appengine.Suites))
	t := &appengine.Test{Dir: work, Spec: &appengine.Spec{Setup: appengine.Setup{Config: filepath.Join(suites, "local/common/configs/pantavisor.config")}}}
	for _, name := range []string{"app", "talker"} {
		link := filepath.Join(work, name)
		if err := os.Symlink(filepath.Join(suites, "common/containers", name), link); err != nil {
			return nil, err
		}
		t.Spec.Setup.Containers.Tarballs = append(t.Spec.Setup.Containers.Tarballs, link)
	}
	prefix, err := appengine.Install(ctx, maker, t, work)
	if err != nil {
		return nil, err
	}
	i := &instance{prefix: prefix}
	trails := filepath.Join(prefix, "storage/trails/0")
	text, err := os.ReadFile(filepath.Join(trails, ".pvr/json"))
	if err != nil {
		return nil, err
	}
	if i.st, err = state.Parse(text); err != nil {
		return nil, err
	}
	run, _ := i.st.Get("app/run.json")
	run = bytes.Replace(run, []byte(`"stable_timeout":600`), []byte(`"stable_timeout":0`), 1)
	const groups = `{"groups":[{"name":"app","restart_policy":"container","status_goal":"STARTED","timeout":30}]}`
	if err := errors.Join(i.st.Set("app/run.json", run), i.st.Set("device.json", []byte(groups))); err != nil {
		return nil, err
	}
	store, err := objects.Create(filepath.Join(prefix, "storage/objects"))
	if err == nil {
		err = os.RemoveAll(trails)
	}
	if err == nil {
		err = trail.Checkout(ctx, trails, i.st, store, trail.Options{})
	}
	return i, err
}

// start runs the instance until its containers have started.
func (i *instance) start(ctx context.Context) (stop func(), err error) {
	i.cmd = exec.Command(filepath.Join(i.prefix, "pantavisor"), "-i")
	i.cmd.Env = append(os.Environ(), "PV_UPDATER_COMMIT_DELAY=0")
	out, err := i.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := i.cmd.Start(); err != nil {
		return nil, err
	}
	drained := make(chan struct{})
	stop = func() {
		_ = i.cmd.Process.Signal(unix.SIGTERM)
		<-drained
		_ = i.cmd.Wait()
	}
	ready := make(chan struct{})
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "ready: all") {
				close(ready)
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	i.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", i.socket())
	}}}
	select {
	case <-ready:
		return stop, nil
	case <-drained:
		err = errors.New("the instance ended before its containers had started")
	case <-ctx.Done():
		err = ctx.Err()
	}
	stop()
	return nil, err
}

// edit gives the app another configuration, which differs in a comment.
func (i *instance) edit(ctx context.Context) error {
	const key = "app/lxc.container.conf"
	sum, ok := i.st.Object(key)
	if !ok {
		return fmt.Errorf("the state has no object %s", key)
	}
	text, err := request(ctx, i.client, http.MethodGet, "/objects/"+sum, "")
	if err != nil {
		return err
	}
	text = append(text, "# changed\n"...)
	digest := sha256.Sum256(text)
	sum = hex.EncodeToString(digest[:])
	if _, err := request(ctx, i.client, http.MethodPut, "/objects/"+sum, string(text)); err != nil {
		return err
	}
	return i.st.SetObject(key, sum)
}

// double adds an app that is the first under another name.
func (i *instance) double(context.Context) error {
	for _, key := range slices.Clone(i.st.Keys()) {
		rest, ok := strings.CutPrefix(key, "app/")
		if !ok {
			continue
		}
		var err error
		if sum, object := i.st.Object(key); object {
			err = i.st.SetObject("second/"+rest, sum)
		} else {
			text, _ := i.st.Get(key)
			err = i.st.Set("second/"+rest, bytes.ReplaceAll(text, []byte(`"name":"app"`), []byte(`"name":"second"`)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// update stores the state as a revision, runs it and returns the seconds until it has a status.
func (i *instance) update(ctx context.Context, rev, op, status string) (float64, error) {
	if _, err := request(ctx, i.client, http.MethodPut, "/steps/"+rev, string(i.st.Encode())); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := request(ctx, i.client, http.MethodPost, "/commands", fmt.Sprintf(`{"op":%q,"payload":%q}`, op, rev)); err != nil {
		return 0, err
	}
	last := ""
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		body, err := request(ctx, i.client, http.MethodGet, "/updates/"+rev, "")
		var list []struct{ Status, Message string }
		if err == nil && json.Unmarshal(body, &list) == nil && len(list) > 0 { // a restart is in between
			last = list[len(list)-1].Status + " " + list[len(list)-1].Message
			switch list[len(list)-1].Status {
			case status:
				return time.Since(start).Seconds(), nil
			case "ERROR", "WONTGO":
				return 0, fmt.Errorf("revision %s: %s", rev, body)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("revision %s is %s and was to be %s: %w", rev, last, status, ctx.Err())
		}
	}
}

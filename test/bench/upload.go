package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/appengine"
)

// uploadSize is the size of the object that is sent, in bytes.
const uploadSize = 2 << 30

// uploads measures the memory that a large object takes on its way to an instance.
func uploads(ctx context.Context, root string) ([]Row, error) {
	target, err := appengine.HostTarget(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	maker, err := workspace.OpenMaker(ctx, root, target, nil)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	i, err := install(ctx, maker, work)
	if err != nil {
		return nil, err
	}
	stop, err := i.start(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	program := filepath.Join(work, "pv-sdk")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./cmd/pv-sdk")
	build.Dir, build.Env = maker.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building pv-sdk: %w: %s", err, out)
	}
	pvtx, grown, err := i.uploadWithPvtx(ctx, program, filepath.Join(work, "pvtx"))
	if err != nil {
		return nil, err
	}
	web, grownMore, err := i.uploadToPage(ctx, program, filepath.Join(work, "web"))
	if err != nil {
		return nil, err
	}
	const what = "upload of 2 GiB, peak memory of "
	return []Row{
		row(what+"pvtx", "MiB", 16, []float64{pvtx}, "the process, its own text included; an export with one object over standard input"),
		row(what+"the page's server", "MiB", 16, []float64{web}, "the same"),
		row(what+"the runtime", "MiB", 16, []float64{grown, grownMore}, "more than before, for each of the two"),
	}, nil
}

// uploadWithPvtx sends an export to pvtx; it returns the peaks in MiB, that of the runtime as growth.
func (i *instance) uploadWithPvtx(ctx context.Context, program, dir string) (pvtx, grown float64, err error) {
	run := func(in io.Reader, args ...string) error {
		cmd := exec.CommandContext(ctx, program, append([]string{"pvtx", "-s", i.socket()}, args...)...)
		cmd.Env = append(os.Environ(), "PVTXDIR="+dir)
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for { // what wait4 returns is at least what this process had when it started the other
			select {
			case err := <-ended:
				if err != nil {
					return fmt.Errorf("pvtx %s: %w: %s", strings.Join(args, " "), err, &out)
				}
				return nil
			case <-time.After(5 * time.Millisecond):
				pvtx = max(pvtx, highWater(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)))
			}
		}
	}
	if err := run(nil, "begin", "empty"); err != nil {
		return 0, 0, err
	}
	export, err := largeExport('p')
	if err != nil {
		return 0, 0, err
	}
	grown, err = i.grows(func() error { return run(export, "add", "-") })
	return pvtx, grown, err
}

// uploadToPage sends an export to the server of the page.
func (i *instance) uploadToPage(ctx context.Context, program, dir string) (web, grown float64, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.CommandContext(ctx, program, "pv-web", "-listen", address, "-s", i.socket(), "-transaction", dir, "-config", dir+".none")
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { _ = errors.Join(cmd.Process.Kill(), cmd.Wait()) }()
	send := func(method, verb string, body io.Reader) error {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+address+"/cgi-bin/pvtx/"+verb, body)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %d %s", verb, resp.StatusCode, text)
		}
		return nil
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if err = send(http.MethodPost, "begin?empty=true", nil); err == nil || time.Now().After(end) {
			break
		}
	}
	export, err2 := largeExport('w')
	if err := errors.Join(err, err2); err != nil {
		return 0, 0, err
	}
	grown, err = i.grows(func() error { return send(http.MethodPut, "add", export) })
	return highWater(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)), grown, err
}

// grows returns how much more memory the runtime has at its peak while do runs, in MiB.
func (i *instance) grows(do func() error) (float64, error) {
	proc := fmt.Sprintf("/proc/%d/", i.cmd.Process.Pid)
	resetPeak(proc)
	before := highWater(proc + "status")
	err := do()
	return highWater(proc+"status") - before, err
}

// socket is the instance's control socket.
func (i *instance) socket() string { return filepath.Join(i.prefix, "run/pv/pv-ctrl") }

// largeExport returns an export with one object, all of one byte.
func largeExport(of byte) (io.Reader, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(same(of), uploadSize)); err != nil {
		return nil, err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	state := fmt.Sprintf(`{"#spec":"pantavisor-service-system@1","app/root.squashfs":%q}`, sum)
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: "json", Mode: 0o644, Size: int64(len(state))})
		if err == nil {
			_, err = io.WriteString(t, state)
		}
		if err == nil {
			err = t.WriteHeader(&tar.Header{Name: "objects/" + sum, Mode: 0o644, Size: uploadSize})
		}
		if err == nil {
			_, err = io.Copy(t, io.LimitReader(same(of), uploadSize))
		}
		_ = w.CloseWithError(errors.Join(err, t.Close()))
	}()
	return r, nil
}

// same is an endless file of one byte.
type same byte

// Read implements io.Reader.
func (s same) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	pipeline "github.com/pantavisor/pantavisor/ci/devices"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/repo"
)

// The measured project: devices in directories with a BSP and containers of one registry.
const (
	pipelineDevices    = 8
	pipelineContainers = 4
	pipelineLayer      = 2_000_000 // bytes of a container's image
)

// pipelineUpdate measures pvci device update when no source has anything new.
func pipelineUpdate(ctx context.Context, _ string) ([]Row, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	if err := pipelineProject(ctx, dir, strings.TrimPrefix(srv.URL, "http://")); err != nil {
		return nil, err
	}
	o := pipeline.Options{Dir: dir, Env: append(os.Environ(), "PH_CIBOT_EMAIL=bot@example.com"), NoPush: true}
	first, err := o.Update(ctx)
	if err != nil || !first.Committed {
		return nil, errors.Join(err, fault.New(fault.Internal, "the first update committed nothing"))
	}
	cpu, wall, _, err := repeat(runs, func(int) error {
		out, err := o.Update(ctx)
		if err == nil && out.Message != "" {
			err = fault.New(fault.Internal, "an update without a change has the message %q", out.Message)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range cpu {
		cpu[i], wall[i] = cpu[i]/pipelineDevices, wall[i]/pipelineDevices
	}
	note := fmt.Sprintf("each of %d devices in directories, with a BSP and %d containers; git and the registry included", pipelineDevices, pipelineContainers)
	return []Row{
		row("no-change `pvci device update`", "CPU s", 1, cpu, note),
		row("no-change `pvci device update`", "s wall", 0, wall, "as above"),
	}, nil
}

// pipelineProject makes the project with its devices.
func pipelineProject(ctx context.Context, dir, server string) error {
	var config pipeline.Config
	config.Template = "update-ci.yml"
	for i := range pipelineContainers {
		img, err := random.Image(pipelineLayer, 1)
		if err != nil {
			return err
		}
		ref, err := name.ParseReference(fmt.Sprintf("%s/app%d:1", server, i))
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img); err != nil {
			return err
		}
	}
	bsp := filepath.Join(dir, "bsp")
	if err := pipelineRepository(ctx, bsp, map[string]string{"bsp/run.json": `{"linux":"kernel.img"}`, "bsp/kernel.img": "kernel"}, ""); err != nil {
		return err
	}
	for i := range pipelineDevices {
		id := fmt.Sprintf("device%d", i)
		files := map[string]string{
			"bsp/run.json": `{"linux":"kernel.img"}`, "bsp/kernel.img": "kernel",
			"bsp/src.json": fmt.Sprintf(`{"#spec":"bsp-manifest-src@1","pvr":%q}`, bsp+"/.pvr#bsp"),
		}
		if err := pipelineRepository(ctx, filepath.Join(dir, id), files, server); err != nil {
			return err
		}
		config.Devices = append(config.Devices, pipeline.Device{ID: id, Schedule: "./" + id, Tag: "./" + id + "_stable"})
	}
	text, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, pipeline.ConfigName), text, 0o600)
	}
	if err != nil {
		return err
	}
	git := exec.CommandContext(ctx, "git", "init", "--quiet", dir)
	git.Stderr = os.Stderr
	return git.Run()
}

// pipelineRepository makes a repository with files, and with containers of a registry unless that is "".
func pipelineRepository(ctx context.Context, dir string, files map[string]string, server string) error {
	if err := repo.Init(dir, repo.InitOptions{}); err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			return err
		}
	}
	w := &app.Workspace{Dir: dir, NoSBOM: true}
	for i := range pipelineContainers {
		if server == "" {
			break
		}
		if _, err := w.Add(ctx, fmt.Sprintf("app%d", i), app.AddOptions{From: fmt.Sprintf("%s/app%d:1", server, i), FormatOptions: "-comp gzip"}); err != nil {
			return err
		}
	}
	r, err := repo.Open(ctx, dir, repo.Options{Write: true})
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Add(ctx, []string{"."}, false); err != nil {
		return err
	}
	return r.Commit(ctx, repo.CommitOptions{})
}

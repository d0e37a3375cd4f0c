package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

func appCommands(t *tool) []*cobra.Command {
	return []*cobra.Command{newAppAdd(t), newAppInstall(t), newAppUpdate(t)}
}

// imageFlags say where container images come from.
type imageFlags struct {
	platform, source   string
	username, password string
}

func (f *imageFlags) declare(fs *pflag.FlagSet) {
	text(fs, &f.platform, "platform", "", "PVR_PLATFORM", "", "`platform` of the image, os/architecture[/variant]")
	text(fs, &f.source, "source", "", "PVR_SOURCE", "", "`list` of where images are looked for: remote, local (default what is recorded, else remote,local)")
	text(fs, &f.username, "username", "u", "PVR_REGISTRY_USERNAME", "", "`name` at the registry")
	text(fs, &f.password, "password", "p", "PVR_REGISTRY_PASSWORD", "", "`password` at the registry")
}

func (f *imageFlags) options(t *tool) image.Options {
	opt := image.Options{Cache: filepath.Join(t.configDir, "cache"), Username: f.username, Password: f.password, Insecure: t.insecure}
	if f.platform != "" {
		opt.Platforms = []string{f.platform}
	}
	for _, word := range splitParts(f.source) {
		opt.Origins = append(opt.Origins, image.Origin(word))
	}
	return opt
}

// workspace opens the checkout for work on applications; the repository is locked
// until it is closed.
func (t *tool) workspace(ctx context.Context, f *imageFlags) (*app.Workspace, *repo.Repo, error) {
	r, err := t.open(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	w := &app.Workspace{Dir: r.Dir(), Images: f.options(t), Repository: &parts{tool: t}, Report: t.tell, CheckConfig: checkConfig}
	if text, ok := r.Committed().Get("_hostconfig/pvr/docker.json"); ok {
		w.DockerConfig = text
	}
	w.Groups, err = trackedFile(r, "groups.json")
	if err == nil {
		w.Device, err = trackedFile(r, "device.json")
	}
	if err != nil {
		r.Close()
		return nil, nil, fail(3, err)
	}
	return w, r, nil
}

// trackedFile reads a file of the working tree; nil when it is not tracked or not there.
func trackedFile(r *repo.Repo, key string) ([]byte, error) {
	if !r.Tracks(key) {
		return nil, nil
	}
	text, err := readPEM(filepath.Join(r.Dir(), key))
	if missing(err) {
		return nil, nil
	}
	return text, err
}

// tell prints what an operation says.
func (t *tool) tell(m app.Message) {
	out := t.stdout
	if m.Notice {
		out = t.stderr
	}
	fmt.Fprintln(out, m.Text)
}

// parts gives applications the parts of other repositories.
type parts struct{ tool *tool }

// Fetch implements app.Repository.
func (p *parts) Fetch(ctx context.Context, name string, f state.Fragment) (*state.State, *objects.Store, error) {
	_, src, err := p.tool.source(name, false)
	if err != nil {
		return nil, nil, err
	}
	store, err := objects.Create(filepath.Join(p.tool.configDir, "objects"))
	if err != nil {
		return nil, nil, err
	}
	pulled, err := src.Pull(ctx, store, f.Takes)
	if err != nil {
		return nil, nil, err
	}
	return pulled.State, store, nil
}

type appAdd struct {
	app.AddOptions
	image              imageFlags
	kind, config, args string
	noSBOM             bool
}

func newAppAdd(t *tool) *cobra.Command {
	var o appAdd
	cmd := &cobra.Command{
		Use:     "add APP --from SOURCE",
		Aliases: []string{"aa"},
		Short:   "Add an application from a container image, a root file system or a repository",
		Example: `  pvr app add nginx --from nginx:stable-alpine --platform linux/arm64
  pvr app add tools --type rootfs --from rootfs.tar.gz --arg PV_RUNLEVEL=app
  pvr app add web --type pvr --from nick/device#web`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return failf(2, "app-add needs application name argument. See --help")
			case o.From == "":
				return failf(4, " --from flag is required (e.g. --from=nginx)")
			case o.Group != "" && o.RunLevel != "":
				return failf(5, "a group and a runlevel exclude each other; give one of --group and --runlevel")
			}
			return t.appAdd(cmd.Context(), args[0], &o)
		},
	}
	o.declare(cmd.Flags())
	completeFlags(cmd, map[string][]string{
		"base": nil, "type": {"docker", "rootfs", "pvr"}, "source": {"remote,local", "remote", "local"},
		"restart-policy": {"system", "container"}, "status-goal": {"MOUNTED", "STARTED", "READY"},
	})
	return cmd
}

func (o *appAdd) declare(fs *pflag.FlagSet) {
	text(fs, &o.From, "from", "", "PVR_FROM", "", "`source`: an image, a directory, tarball or URL of a root file system, or REPO#PART")
	text(fs, &o.kind, "type", "t", "PVR_SOURCE_TYPE", "docker", "docker, rootfs or pvr")
	o.image.declare(fs)
	text(fs, &o.Group, "group", "", "PVR_GROUP", "", "`name` of the group that it starts with")
	text(fs, &o.RunLevel, "runlevel", "", "PVR_RUNLEVEL", "", "`runlevel` that it starts in")
	text(fs, &o.RestartPolicy, "restart-policy", "", "PVR_RESTART_POLICY", "", "what its update restarts: system or container")
	text(fs, &o.StatusGoal, "status-goal", "", "PVR_STATUS_GOAL", "", "MOUNTED, STARTED or READY")
	text(fs, &o.Base, "base", "", "PVR_APP_ADD_BASE", "", "`application` whose root file system it extends")
	text(fs, &o.config, "config-json", "", "", "", "`file` with a JSON object, the configuration of a root file system")
	text(fs, &o.args, "arg-json", "", "", "", "`file` with a JSON object of arguments of any type")
	fs.StringArrayVar(&o.Args, "arg", nil, "argument `NAME=VALUE` of the template; may be repeated")
	fs.StringArrayVar(&o.Volumes, "volume", nil, "`PATH:POLICY` of a volume; may be repeated")
	text(fs, &o.FormatOptions, "format-options", "o", "", "", "`words` of mksquashfs, as in --format-options=\"-comp gzip\"")
	flag(fs, &o.noSBOM, "no-sbom", "", "PVR_NO_SBOM", "do not write the application's bill of materials, APP/sbom.spdx.zst")
	flag(fs, &o.Force, "force", "", "", "replace an application of that name; take an image for another platform")
}

func (t *tool) appAdd(ctx context.Context, name string, o *appAdd) error {
	var err error
	if o.Kind, err = app.ParseKind(o.kind); err != nil {
		return fail(3, err)
	}
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{o.config, &o.Config}, {o.args, &o.ArgsJSON}} {
		if f.name == "" {
			continue
		}
		if *f.to, err = readPEM(f.name); err != nil {
			return fail(3, err)
		}
	}
	return t.withWorkspace(ctx, &o.image, func(w *app.Workspace) (*app.Result, error) {
		w.NoSBOM = o.noSBOM
		return w.Add(ctx, name, o.AddOptions)
	})
}

// withWorkspace runs an operation and tracks the files that it made.
func (t *tool) withWorkspace(ctx context.Context, f *imageFlags, do func(*app.Workspace) (*app.Result, error)) error {
	w, r, err := t.workspace(ctx, f)
	if err != nil {
		return err
	}
	defer r.Close()
	res, err := do(w)
	var path *fs.PathError
	if errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(path.Path, app.SourceName) {
		return fail(2, path)
	}
	if err != nil {
		return fail(3, err)
	}
	if res == nil || len(res.Tracked) == 0 {
		return nil
	}
	return fail(3, r.AddFiles(ctx, res.Tracked))
}

func newAppInstall(t *tool) *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:     "install APP",
		Aliases: []string{"ai"},
		Short:   "Make an application's files again from its manifest",
		Example: "  pvr app install nginx",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return failf(2, "app-install needs application argument. See --help")
			}
			ctx := cmd.Context()
			if err := hasManifest(args[0]); err != nil {
				return err
			}
			return t.withWorkspace(ctx, &f, func(w *app.Workspace) (*app.Result, error) { return w.Install(ctx, args[0]) })
		},
		ValidArgsFunction: completeApps,
	}
	f.declare(cmd.Flags())
	return cmd
}

// hasManifest checks that an application of the checkout can be made.
func hasManifest(name string) error {
	dir, err := checkout()
	if err != nil {
		return err
	}
	if name, err = app.CheckName(name); err != nil {
		return fail(2, err)
	}
	f, err := os.Open(filepath.Join(dir, name, app.SourceName))
	if err != nil {
		return fail(2, err)
	}
	return f.Close()
}

func newAppUpdate(t *tool) *cobra.Command {
	var f imageFlags
	var o app.UpdateOptions
	cmd := &cobra.Command{
		Use:     "update APP",
		Aliases: []string{"au"},
		Short:   "Bring an application to its source's present content",
		Example: "  pvr app update nginx\n  pvr app update nginx --from nginx:1.29",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return failf(2, "app-update needs application argument. See --help")
			}
			ctx := cmd.Context()
			if err := hasManifest(args[0]); err != nil {
				return err
			}
			return t.withWorkspace(ctx, &f, func(w *app.Workspace) (*app.Result, error) { return w.Update(ctx, args[0], o) })
		},
		ValidArgsFunction: completeApps,
	}
	fs := cmd.Flags()
	text(fs, &o.From, "from", "", "PVR_FROM", "", "new `source` of the same kind")
	flag(fs, &o.Patch, "patch", "", "", "leave the root file system and make an overlay of what differs")
	flag(fs, &o.NewBase, "newbase", "", "", "make the root file system anew and drop the overlay")
	f.declare(fs)
	return cmd
}

func newDMConvert(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "dm-convert CONTAINER VOLUME",
		Aliases: []string{"dmc"},
		Short:   "Have a container's volume mounted through dm-verity",
		Example: "  pvr dm-convert nginx root.squashfs",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return failf(2, "missing arguments, see --help")
			}
			container, volume, err := app.SplitVolume(args...)
			if err != nil {
				return failf(3, "ERROR: volume could not be found; see --help")
			}
			ctx := cmd.Context()
			err = t.withWorkspace(ctx, &imageFlags{}, func(w *app.Workspace) (*app.Result, error) { return w.ConvertDM(ctx, container, volume) })
			return dmCode(err, 4)
		},
		ValidArgsFunction: completeVolumes,
	}
}

// dmCode gives a failed operation another exit code.
func dmCode(err error, code int) error {
	var exit *exitError
	if errors.As(err, &exit) {
		return fail(code, exit.err)
	}
	return err
}

func newDMApply(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "dm-apply [PREFIX]",
		Aliases: []string{"dma"},
		Short:   "Make the hash trees of volumes anew",
		Example: "  pvr dm-apply\n  pvr dm-apply nginx",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return failf(2, "dm-apply can have at most 1 argument. See --help")
			}
			ctx := cmd.Context()
			r, err := t.open(ctx, false)
			if err != nil {
				return err
			}
			working, err := r.Working(ctx)
			r.Close()
			if err != nil {
				return fail(3, err)
			}
			return t.withWorkspace(ctx, &imageFlags{}, func(w *app.Workspace) (*app.Result, error) {
				return w.ApplyDM(ctx, working.State.Keys(), strings.Join(args, ""))
			})
		},
	}
}

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// AddOptions describe an application to add; the fields are the flags of pvr app
// add.
type AddOptions struct {
	// From names the source: an image (see [image.Resolve]), a root file system
	// (directory, tar archive plain or as gzip, xz or zstd, URL), or REPOSITORY#PART.
	From string
	// Kind is the kind of source; default Docker.
	Kind Kind
	// Group, RunLevel, RestartPolicy and StatusGoal become arguments of the same
	// meaning; a group and a runlevel exclude each other.
	Group, RunLevel, RestartPolicy, StatusGoal string
	// Base is the application whose root file system this one extends.
	Base string
	// Config is the text of a JSON object that becomes docker_config of a root file
	// system; nil for none.
	Config []byte
	// Args are NAME=VALUE; a value is always a string.
	Args []string
	// ArgsJSON is the text of a JSON object of arguments of any type; nil for none.
	// Args take precedence.
	ArgsJSON []byte
	// Volumes are PATH:POLICY or SCHEME:PATH:POLICY, POLICY PERSISTENCE[@DISK].
	Volumes []string
	// FormatOptions are words of mksquashfs, see docs/pvr-app.md.
	FormatOptions string
	// Force replaces an application of that name; otherwise it is only installed
	// again, and nothing of the new source is used. Force also takes an image for another
	// platform than those wanted.
	Force bool
}

// Add adds an application. Without Force an existing one of that name is only
// installed again.
func (w *Workspace) Add(ctx context.Context, name string, o AddOptions) (*Result, error) {
	name, err := CheckName(name)
	if err != nil {
		return nil, err
	}
	src, err := o.source()
	if err != nil {
		return nil, fmt.Errorf("adding application %q: %w", name, err)
	}
	r, err := w.add(ctx, name, src, o)
	if err != nil {
		return nil, fmt.Errorf("adding application %q: %w", name, err)
	}
	w.say(name, "", "Application added")
	return r, nil
}

func (w *Workspace) add(ctx context.Context, name string, src *Source, o AddOptions) (*Result, error) {
	old, err := w.existing(name)
	if err != nil {
		return nil, err
	}
	if old != nil && !o.Force {
		w.notice(name, "WARN: application %s is there already; nothing of %s is used (use --force to replace it)", name, o.From)
		return w.install(ctx, name, 0)
	}
	if o.Kind == PVR {
		return w.addPart(ctx, name, o.From, src)
	}
	b, err := w.begin(name, old, src)
	if err != nil {
		return nil, err
	}
	defer b.end()
	b.force, b.added = o.Force, true
	if o.Kind == Rootfs {
		src.Set("rootfs_url", o.From)
	} else if err := b.lookup(ctx, o.From, o.Base != ""); err != nil {
		return nil, err
	}
	return b.finish(ctx)
}

// Manifest returns the text of the src.json of a container image for one platform that nobody has looked
// up: what a project keeps, and [Workspace.Update] completes. From and the other fields are those of the
// options.
func (o *AddOptions) Manifest(platform string, origins []image.Origin) ([]byte, error) {
	if o.Kind != Docker && o.Kind != "" {
		return nil, fault.New(fault.BadInput, "type %s: only container images have a platform", o.Kind)
	}
	src, err := o.source()
	if err != nil {
		return nil, err
	}
	name, tag := image.RecordedReference(o.From)
	src.Set("docker_name", name)
	src.Set("docker_tag", tag)
	src.Set("docker_source", sources(origins))
	src.Set("docker_platform", platform)
	return append(src.encode(canon.Style{Indent: "  "}), '\n'), nil
}

// existing returns the manifest of an existing application, or nil when there is no
// directory of its name.
func (w *Workspace) existing(name string) (*Source, error) {
	if !w.Exists(name) {
		return nil, nil
	}
	info, err := os.Lstat(w.directory(name))
	if err == nil && !info.IsDir() {
		return nil, fault.New(fault.BadInput, "%s exists and is not a directory", name)
	}
	return w.read(name)
}

// lookup finds the image and records it in the manifest, as overlay or as root.
func (b *build) lookup(ctx context.Context, reference string, overlay bool) error {
	opts, err := b.w.origins(b.src)
	if err != nil {
		return err
	}
	opts.AnyPlatform = b.force
	i, err := image.Resolve(ctx, reference, opts)
	if err != nil {
		return err
	}
	b.image = i
	if i.Forced != "" {
		b.w.notice(b.name, "WARN: %s is an image for %s, not for %s", reference, i.Forced, cmp.Or(strings.Join(opts.Platforms, ", "), "linux"))
		b.src.Set("docker_platform", i.Forced)
	}
	if i.Platform != "" {
		b.w.notice(b.name, "Found Manifest for platform %s", i.Platform)
	} else {
		b.w.notice(b.name, "Found Manifest for default platform.")
	}
	b.src.Set("docker_name", i.Name)
	b.src.Set("docker_tag", i.Tag)
	if i.Platform != "" { // else what the manifest has stays, for when the reference names an index
		b.src.Set("docker_platform", i.Platform)
	}
	b.src.SetValue("docker_config", i.Config)
	if b.src.Text("docker_source") == "" || len(b.w.Images.Origins) > 0 {
		b.src.Set("docker_source", sources(opts.Origins))
	}
	if overlay {
		b.src.Set("docker_ovl_digest", i.Digest)
	} else {
		b.src.Set("docker_digest", i.Digest)
	}
	return nil
}

func sources(origins []image.Origin) string {
	var words []string
	for _, o := range origins {
		words = append(words, string(o))
	}
	return strings.Join(words, ",")
}

// source makes the manifest that the flags describe; the error lists all mistakes in
// them.
func (o *AddOptions) source() (*Source, error) {
	src := newSource(template.Builtin)
	args, argsErr := o.arguments()
	volumes, volumesErr := parseVolumes(o.Volumes)
	_, formatErr := parseFormat(o.FormatOptions)
	if err := errors.Join(o.check(), argsErr, volumesErr, formatErr); err != nil {
		return nil, err
	}
	src.Set("base", o.Base)
	src.SetValue("args", args)
	src.SetValue("persistence", volumes)
	src.Set("format_options", o.FormatOptions)
	if len(o.Config) > 0 && o.Kind == Rootfs {
		config, err := readObject("--config-json", o.Config)
		if err != nil {
			return nil, err
		}
		src.SetValue("docker_config", config)
	}
	return src, nil
}

func (o *AddOptions) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fault.New(fault.BadInput, format, args...)) }
	if o.From == "" {
		bad("--from is missing: an image, a root file system or REPOSITORY#PART is expected")
	}
	if o.Group != "" && o.RunLevel != "" {
		bad("you must not use --runlevel and --group at the same time")
	}
	if _, err := ParseKind(string(o.Kind)); err != nil {
		errs = append(errs, err)
	}
	if o.Base != "" && (o.Kind == Rootfs || o.Kind == PVR) {
		bad("--base goes with container images only, not with type %s", o.Kind)
	}
	return errors.Join(errs...)
}

func readObject(what string, text []byte) (canon.Value, error) {
	v, err := canon.Parse(text)
	if err != nil {
		return v, fault.Wrap(fault.BadInput, err, "reading %s", what)
	}
	if v.Kind() != canon.Object {
		return v, fault.New(fault.BadInput, "reading %s: an object is expected, not a value of type %s", what, v.Kind())
	}
	return v, nil
}

func (o *AddOptions) arguments() (canon.Value, error) {
	var members []canon.Member
	if len(o.ArgsJSON) > 0 {
		v, err := readObject("--arg-json", o.ArgsJSON)
		if err != nil {
			return v, err
		}
		members = append(members, v.Members()...)
	}
	set := func(name, value string) {
		members = append(members, canon.Member{Name: name, Value: canon.Str(value)})
	}
	for _, f := range [][2]string{{"PV_GROUP", o.Group}, {"PV_RUNLEVEL", o.RunLevel}, {"PV_RESTART_POLICY", o.RestartPolicy}, {"PV_STATUS_GOAL", o.StatusGoal}} {
		if f[1] != "" {
			set(f[0], f[1])
		}
	}
	for _, arg := range o.Args {
		name, value, _ := strings.Cut(arg, "=")
		if name == "" {
			return canon.Value{}, fault.New(fault.BadInput, "argument %q: NAME=VALUE is expected", arg)
		}
		set(name, value)
	}
	return canon.Obj(members...), nil
}

// parseVolumes reads PATH:POLICY; a path may have a scheme, as in ovl:/var.
func parseVolumes(volumes []string) (canon.Value, error) {
	var members []canon.Member
	for _, v := range volumes {
		colon := strings.LastIndexByte(v, ':')
		if colon <= 0 || colon == len(v)-1 {
			return canon.Value{}, fault.New(fault.BadInput, "invalid volume format %q: PATH:POLICY is expected, as in /data:permanent", v)
		}
		members = append(members, canon.Member{Name: v[:colon], Value: canon.Str(v[colon+1:])})
	}
	return canon.Obj(members...), nil
}

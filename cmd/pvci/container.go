package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pantavisor/pantavisor/ci/containers"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/app/image"
)

// containerCommand has the commands that make packages of containers.
func containerCommand(t *tool) *cobra.Command {
	c := &cobra.Command{
		Use:   "container",
		Short: "Make packages of containers for all architectures",
		Long: `Make packages of containers for all architectures, and publish them. The names pvpkg_install and
build_exports, as links to pvci, are those of container install and container build.`,
		Example: `  pvci container install -p linux/amd64,linux/arm64 registry.example.com/web:1.0 web --group app
  pvci container build --key key.pem --x5c chain.pem
  pvci container publish s3://packages/web`,
	}
	c.AddCommand(containerInit(t), containerInstall(t), containerBuild(t), containerIndex(t), containerPublish(t), containerList(t))
	return c
}

// projectFlag declares the flag for the directory of a project.
func projectFlag(fs *pflag.FlagSet, dir *string) {
	fs.StringVarP(dir, "directory", "C", ".", "`directory` of the project")
}

// platformFlag declares the flag for platforms.
func platformFlag(c *cobra.Command, list *[]string, usage string) {
	c.Flags().StringSliceVarP(list, "platform", "p", nil, usage)
	_ = c.RegisterFlagCompletionFunc("platform", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return containers.Known(), cobra.ShellCompDirectiveNoFileComp
	})
}

// wrote is the result of commands that write files of a project.
type wrote struct {
	Written []string `json:"written"` // that have new content
}

func (t *tool) printWritten(names []string) error {
	text := "nothing to do: all files are as they should be\n"
	if len(names) > 0 {
		text = strings.Join(names, "\n") + "\n"
	}
	return t.print(text, wrote{append([]string{}, names...)})
}

func containerInit(t *tool) *cobra.Command {
	var dir string
	var platforms []string
	c := &cobra.Command{
		Use:   "init [NAME]",
		Short: "Make pvpkg.json and container-ci.conf",
		Long: `Make pvpkg.json, with name and version of the package, and container-ci.conf, with its platforms. Files that
are there stay as they are.`,
		Example: "  pvci container init pvwebstatus\n  pvci container init -p linux/arm64,linux/arm/v7",
		Args:    between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			names, err := containers.Init(dir, strings.Join(args, ""), platforms...)
			if err != nil {
				return err
			}
			return t.printWritten(names)
		},
	}
	projectFlag(c.Flags(), &dir)
	platformFlag(c, &platforms, "`list` of platforms (default the six usual ones)")
	return c
}

func containerInstall(t *tool) *cobra.Command {
	var o containers.InstallOptions
	var source []string
	c := &cobra.Command{
		Use:   "install IMAGE NAME",
		Short: "Write the manifest of a container for each platform, pvpkg/ARCH/NAME/src.json",
		Long: `Write the manifest of a container for each platform, pvpkg/ARCH/NAME/src.json, and pvpkg.json and
container-ci.conf if there are none. Without -p the platforms are those of container-ci.conf. The image need not be
there yet.

IMAGE is that of a registry (NAME:TAG), an OCI layout (oci:DIRECTORY:TAG) or an archive (oci-archive:FILE:TAG,
docker-archive:FILE:TAG), with paths relative to the project; {arch} in it stands for the directory of each platform.
The flags from --group on are those of pvr app add.`,
		Example: `  pvci container install -p linux/amd64,linux/arm/v7 registry.example.com/web:1.0 web --group app
  pvci container install oci:out/image web --volume /data:permanent
  pvci container install docker-archive:out/web-{arch}.tar:1.0 web`,
		Args: between(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			o.App.From = args[0]
			var err error
			if len(source) > 0 {
				if o.Origins, err = image.ParseOrigins(strings.Join(source, ",")); err != nil {
					return err
				}
			}
			names, err := containers.Install(args[1], o)
			if err != nil {
				return err
			}
			return t.printWritten(names)
		},
	}
	fs := c.Flags()
	projectFlag(fs, &o.Dir)
	platformFlag(c, &o.Platforms, "`list` of platforms, as that of docker (default those of container-ci.conf)")
	fs.SortFlags = false
	fs.StringVar(&o.App.Group, "group", "", "`name` of the group that it starts with")
	fs.StringVar(&o.App.RunLevel, "runlevel", "", "`runlevel` that it starts in")
	fs.StringVar(&o.App.RestartPolicy, "restart-policy", "", "what its update restarts: system or container")
	fs.StringVar(&o.App.StatusGoal, "status-goal", "", "MOUNTED, STARTED or READY")
	fs.StringArrayVar(&o.App.Args, "arg", nil, "argument `NAME=VALUE` of the template; may be repeated")
	fs.StringArrayVar(&o.App.Volumes, "volume", nil, "`PATH:POLICY` of a volume; may be repeated")
	fs.StringVarP(&o.App.FormatOptions, "format-options", "o", "", "`words` of mksquashfs, as in --format-options=\"-comp gzip\"")
	fs.StringSliceVar(&source, "source", nil, "`list` of where the image is looked for: remote, local (default remote,local)")
	return c
}

// signingFlags declares the flags of pvr sig.
func signingFlags(fs *pflag.FlagSet, s *containers.Signing) {
	fs.StringVarP(&s.Key, "key", "k", "", "`file` of the private key to sign with [PVR_SIG_KEY]")
	fs.StringVarP(&s.Chain, "x5c", "x", "", "`file` of the signer's certificates, the signer's own first; no for none [PVR_X5C_PATH]")
	fs.StringVar(&s.PublicKey, "pubkey", "", "`file` of the public key of --signcmd [PVR_SIG_PUBKEY]")
	fs.StringVar(&s.Command, "signcmd", "", "`program` that signs in place of a key file: it reads the message from its standard input and writes the signature; needs --x5c or --pubkey")
}

// fromEnvironment gives flags that were not given the values of variables. They are no defaults of the flags,
// because help texts print those.
func fromEnvironment(fs *pflag.FlagSet, variables map[string]string) error {
	for name, variable := range variables {
		value := os.Getenv(variable)
		if value == "" || fs.Changed(name) {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return fault.New(fault.BadInput, "%s=%s: %w", variable, value, err)
		}
	}
	return nil
}

// buildVariables are the variables of container build, by flag.
var buildVariables = map[string]string{
	"key": "PVR_SIG_KEY", "x5c": "PVR_X5C_PATH", "pubkey": "PVR_SIG_PUBKEY",
	"username": "PVR_REGISTRY_USERNAME", "password": "PVR_REGISTRY_PASSWORD", "build-version": "BUILD_VERSION",
}

func containerBuild(t *tool) *cobra.Command {
	var o containers.BuildOptions
	var verbose bool
	c := &cobra.Command{
		Use:   "build",
		Short: "Make the packages of all platforms below releases/",
		Long: `Make the packages of all platforms below releases/: for each a checkout of pvr in ARCH/, its export
NAME-VERSION-0-COUNT-gREV.ARCH.tgz, COUNT being the commits of HEAD, its bill of materials .spdx.json beside it, and the
index packages.json. Nothing appears unless all of it was made.

Images come from their registry, layout or archive, without Docker. Credentials are those of --username, of docker login,
or in a pipeline of GitLab those of the project's registry. With --key or --signcmd each container is signed.
The same commit and the same images give the same bytes; SOURCE_DATE_EPOCH is the time of all files in place of the
commit's.`,
		Example: `  pvci container build
  pvci container build --key key.pem --x5c chain.pem --platform linux/arm64
  BUILD_VERSION=1 pvci container build --json`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), buildVariables); err != nil {
				return err
			}
			o.Epoch, o.Images.Keychain, o.CheckConfig = os.Getenv("SOURCE_DATE_EPOCH"), containers.Keychain(os.Getenv), checkConfig
			o.Signing.Stderr = t.stderr
			o.Report = func(dir string, m app.Message) {
				if m.Notice || verbose {
					fmt.Fprintln(t.stderr, strings.TrimPrefix(dir+": ", ": ")+m.Text)
				}
			}
			built, err := containers.Build(cmd.Context(), o)
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, p := range built.Packages {
				fmt.Fprintf(&text, "%s/%s  %d bytes\n", built.Dir, p.URL, p.Size)
			}
			return t.print(text.String(), built)
		},
	}
	fs := c.Flags()
	projectFlag(fs, &o.Dir)
	platformFlag(c, &o.Platforms, "`list` of platforms (default all in pvpkg/)")
	fs.StringVar(&o.Out, "output", "", "`directory` of the packages (default releases/ of the project)")
	fs.StringVar(&o.Build, "build-version", "", "`text` in place of 0-COUNT-gREV [BUILD_VERSION]")
	fs.BoolVar(&o.SkipMissing, "skip-missing", false, "leave out the platforms that the image does not have")
	signingFlags(fs, &o.Signing)
	fs.StringVarP(&o.Images.Username, "username", "u", "", "`name` at the registry [PVR_REGISTRY_USERNAME]")
	fs.StringVar(&o.Images.Password, "password", "", "`password` at the registry [PVR_REGISTRY_PASSWORD]")
	fs.BoolVar(&o.Images.Insecure, "insecure", false, "allow a registry without TLS")
	fs.StringVar(&o.Images.Cache, "layers", "", "`directory` in which layers are kept for later builds (default none)")
	fs.BoolVarP(&verbose, "verbose", "v", false, "tell each step")
	return c
}

// warnPackage tells about a file that is not in an index.
func (t *tool) warnPackage(file string, why error) {
	fmt.Fprintf(t.stderr, "WARN: %s is left out: %v\n", file, why)
}

// releases returns the directory that a command has as its argument.
func releases(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return containers.ReleasesDir
}

func containerIndex(t *tool) *cobra.Command {
	var o containers.IndexOptions
	c := &cobra.Command{
		Use:   "index [DIRECTORY]",
		Short: "Make packages.json of the packages in a directory (default releases/)",
		Example: `  pvci container index
  pvci container index --url https://packages.example.com/web/ /srv/packages/web`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir, o.Warn = releases(args), t.warnPackage
			list, err := containers.MakeIndex(cmd.Context(), o)
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, p := range list {
				fmt.Fprintf(&text, "%-24s %-12s %-18s %-8s %11d  %s\n", p.Name, p.Version, p.Build, p.Arch, p.Size, p.URL)
			}
			return t.print(text.String(), append([]containers.Package{}, list...))
		},
	}
	c.Flags().StringVar(&o.Base, "url", "", "`URL` that is put before names of files (default none: they are relative to the index)")
	return c
}

// gitlabPrefix marks the registry of packages of a project at GitLab.
const gitlabPrefix = "gitlab:"

// openDestination opens where packages are published.
func openDestination(place string) (containers.Destination, error) {
	if project, ok := strings.CutPrefix(place, gitlabPrefix); ok {
		return containers.OpenRegistry(project, os.Getenv, &http.Client{})
	}
	s, err := openStore(place)
	if err != nil {
		return nil, err
	}
	return containers.InStore(s), nil
}

func containerPublish(t *tool) *cobra.Command {
	o := containers.PublishOptions{Warn: t.warnPackage}
	c := &cobra.Command{
		Use:   "publish STORE [DIRECTORY]",
		Short: "Upload the packages of a directory (default releases/) and put them into the index there",
		Long: `Upload the packages of a directory (default releases/) with their bills of materials, and put them into
the index packages.json there, in which others stay. Files that are there are not uploaded again; one with another
content is an error without --replace. What was interrupted is simply done again.

` + storePlace + ` Or it is "gitlab:", the registry of generic packages of the pipeline's
project, or gitlab:URL with that of another project in the API; the token is GITLAB_TOKEN, else CI_JOB_TOKEN.`,
		Example: `  pvci container publish s3://packages/web
  pvci container publish gitlab:
  pvci container publish gitlab:https://gitlab.com/api/v4/projects/42 --dry-run`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := openDestination(args[0])
			if err != nil {
				return err
			}
			o.Dir, o.To = releases(args[1:]), to
			done, err := containers.Publish(cmd.Context(), o)
			if err != nil {
				return err
			}
			how := map[bool]string{true: "uploaded", false: "is there already"}
			if o.DryRun {
				how[true] = "would be uploaded"
			}
			var text strings.Builder
			for _, f := range done {
				fmt.Fprintf(&text, "%s %s\n", f.To, how[f.Uploaded])
			}
			return t.print(text.String(), append([]containers.Published{}, done...))
		},
	}
	c.Flags().BoolVar(&o.Replace, "replace", false, "replace files with another content")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only tell what would be done")
	return c
}

// packagesOf returns the packages of a store or of the index at a URL.
func packagesOf(ctx context.Context, place string) ([]containers.Package, error) {
	if strings.HasPrefix(place, "http://") || strings.HasPrefix(place, "https://") {
		return containers.FromURL(ctx, place, &http.Client{})
	}
	s, err := openStore(place)
	if err != nil {
		return nil, err
	}
	return containers.FromStore(ctx, s)
}

func containerList(t *tool) *cobra.Command {
	var name, arch string
	c := &cobra.Command{
		Use:   "list STORE|URL",
		Short: "List the packages of an index, as pvr get takes them",
		Long: `List the packages of the index packages.json in a store, or at a URL, each with what pvr get takes: its URL
with the SHA-256 that it must have.

` + storePlace,
		Example: `  pvci container list https://packages.example.com/web/ --arch arm64v8
  pvr get "$(pvci container list https://packages.example.com/web/ --arch arm64v8 --name web --json | jq -r '.[-1] | .url+"@sha256:"+.sha256')"`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := packagesOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			list := []containers.Package{}
			var text strings.Builder
			for _, p := range all {
				if name != "" && p.Name != name || arch != "" && p.Arch != arch && p.Platform != arch {
					continue
				}
				list = append(list, p)
				fmt.Fprintf(&text, "%-24s %-12s %-18s %-8s %11d  %s\n", p.Name, p.Version, p.Build, p.Arch, p.Size, p.Reference())
			}
			return t.print(text.String(), list)
		},
	}
	c.Flags().StringVar(&name, "name", "", "only the packages with this `name`")
	c.Flags().StringVar(&arch, "arch", "", "only those for this `platform`, as arm64v8 or linux/arm64")
	return c
}

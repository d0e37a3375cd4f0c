package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/ci"
	"github.com/pantavisor/pantavisor/ci/catalogue"
	"github.com/pantavisor/pantavisor/ci/devices"
)

// deviceCommand has the commands that keep devices and their recipes up to date.
func deviceCommand(t *tool) *cobra.Command {
	c := &cobra.Command{
		Use:   "device",
		Short: "Keep devices and their recipes up to date, and promote them to images",
		Long: `Keep devices and their recipes up to date, and promote them to images.

` + devices.ConfigName + ` lists the devices. The name of a device is that of one of the Hub (NAME of the
user PHUSER, NICK/NAME, or a URL), the IP address of one in the network, a directory ("./…" or absolute)
whose .pvr is the device, or s3://BUCKET/PREFIX.`,
		Example: `  pvci device init
  pvci device install
  pvci device update --dry-run
  pvci device promote 1.0`,
	}
	c.AddCommand(deviceInit(t), deviceInstall(t), deviceUpdate(t), devicePromote(t))
	return c
}

// files is the result of a command that writes files.
type files struct {
	Files []string `json:"files"`
}

func deviceInit(t *tool) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "init",
		Short: "Make " + devices.ConfigName + " with an example",
		Args:  between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := devices.Init(cmd.Context(), dir)
			if err != nil {
				return err
			}
			return t.print("made "+strings.Join(made, ", ")+"; edit it, then run pvci device install\n", files{made})
		},
	}
	projectFlag(c.Flags(), &dir)
	return c
}

func deviceInstall(t *tool) *cobra.Command {
	var o devices.InstallOptions
	c := &cobra.Command{
		Use:   "install",
		Short: "Make the pipeline from " + devices.ConfigName,
		Long: `Make the pipeline from ` + devices.ConfigName + `: .gitlab-ci.yml, or with --github .github/workflows/devices.yml, and the template that
it includes (see pvci template). Both are made again with a newer pvci.`,
		Example: `  pvci device install
  pvci device install --include group/pipelines@v1:/ci/gitlab/update-ci.yml
  pvci device install --github`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			system := ci.GitLab
			if o.GitHub {
				system = ci.GitHub
			}
			o.Template = func(name string) (string, []byte, error) {
				text, err := system.Text(name)
				return system.Path(name), text, err
			}
			made, err := o.Install(cmd.Context())
			if err != nil {
				return err
			}
			return t.print("made "+strings.Join(made, ", ")+"\n", files{made})
		},
	}
	projectFlag(c.Flags(), &o.Dir)
	c.Flags().StringVar(&o.Include, "include", "", "`template` to include: a path, a URL, PROJECT@REF:PATH; of GitHub OWNER/REPOSITORY/PATH@REF")
	c.Flags().BoolVar(&o.GitHub, "github", false, "make a workflow of GitHub")
	c.Flags().BoolVar(&o.Force, "force", false, "replace a pipeline that was not made by this command")
	return c
}

// deviceOptions declares what update and promote have in common.
func deviceOptions(t *tool, c *cobra.Command, o *devices.Options) {
	o.Env, o.CheckConfig = os.Environ(), checkConfig
	o.Say = func(line string) { fmt.Fprintln(t.stderr, line) }
	projectFlag(c.Flags(), &o.Dir)
	fs := c.Flags()
	fs.StringSliceVar(&o.Only, "device", nil, "`ID` of a device; may be repeated (default all)")
	fs.BoolVar(&o.DryRun, "dry-run", false, "print what would be posted, committed and made, and do nothing of it")
	fs.BoolVar(&o.Insecure, "insecure", false, "allow registries without TLS")
	_ = c.RegisterFlagCompletionFunc("device", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { // the flag is declared above
		config, err := devices.Load(o.Dir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		for _, d := range config.Devices {
			ids = append(ids, d.ID)
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	})
}

func deviceUpdate(t *tool) *cobra.Command {
	var o devices.Options
	c := &cobra.Command{
		Use:   "update",
		Short: "Bring the schedule devices to what their sources have, and commit the recipes",
		Long: `Bring the schedule devices to what their sources have: the BSP and each container by its src.json.
What changed is posted to the device; then the states are committed to recipes/ and pushed. Where nothing
changed, nothing is posted or committed. A run that was interrupted is completed by the next one.`,
		Example: `  pvci device update
  pvci device update --device rpi3_initial --dry-run`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := o.Update(cmd.Context())
			return printPartial(t, out, err)
		},
	}
	deviceOptions(t, c, &o)
	c.Flags().BoolVar(&o.NoPush, "no-push", false, "keep the commit in the clone")
	return c
}

// partial is a result of which a part may have failed.
type partial interface {
	fmt.Stringer
	comparable
}

// printPartial writes what a command did, also when a part of it failed.
func printPartial[R partial](t *tool, out R, err error) error {
	var none R
	if out == none {
		return err
	}
	return errors.Join(err, t.print(out.String(), out))
}

func devicePromote(t *tool) *cobra.Command {
	o := devices.PromoteOptions{}
	var mage, place, public string
	c := &cobra.Command{
		Use:   "promote TAG",
		Short: "Post the recipes of a tag to the tag devices, and make and publish the images",
		Long: `Post the recipes of a tag to the tag devices that have another state, make each image of the devices whose
channel the tag is of, and publish it. Tags without "-" are stable, those that end in -rc... release
candidates, for devices without image_channel; -CHANNEL is for the devices of that image_channel.
What is there already is not made again, so that the command can be repeated.`,
		Example: `  pvci device promote 1.0
  pvci device promote 1.1-rc2 --dry-run`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Tag, o.Mage = args[0], strings.Fields(mage)
			if len(o.Mage) == 0 {
				o.Mage = defaultMage()
			}
			publish, err := publisher(place, public)
			if err != nil {
				return err
			}
			o.Publish = publish
			out, err := o.Promote(cmd.Context())
			return printPartial(t, out, err)
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return tags(cmd.Context(), o.Dir), cobra.ShellCompDirectiveNoFileComp
		},
	}
	deviceOptions(t, c, &o.Options)
	c.Flags().StringVar(&mage, "mage", "", "`command` that builds images (default $MAGE, mage, go tool mage)")
	c.Flags().StringVar(&place, "catalogue", "", "`STORE` with the catalogue that the images are added to (default s3://AWS_BUCKET/AWS_PROJECT_PATH; without AWS_BUCKET none)")
	c.Flags().StringVar(&public, "url", "", urlHelp)
	return c
}

// The variables of the bucket for images, as the manual names them.
const (
	envBucket  = "AWS_BUCKET"
	envProject = "AWS_PROJECT_PATH"
)

// publisher returns what adds images to a catalogue, nil when there is none.
func publisher(place, public string) (func(context.Context, devices.Image) (*devices.Published, error), error) {
	if place == "" && os.Getenv(envBucket) != "" {
		place = "s3://" + os.Getenv(envBucket) + "/" + strings.Trim(os.Getenv(envProject), "/")
	}
	if place == "" {
		return nil, nil
	}
	public, err := publicAddress(public)
	if err != nil {
		return nil, err
	}
	s, err := openStore(place)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, i devices.Image) (*devices.Published, error) {
		p := catalogue.Promoted{Dir: i.Dir, Device: i.Device, Hub: i.Hub, Build: i.Build, Target: i.Target, Version: i.Tag, Channel: i.Channel}
		added, err := p.Publish(ctx, s, catalogue.Options{Public: public})
		if err != nil {
			return nil, err
		}
		return &devices.Published{Place: s.String(), Files: len(added.Uploaded)}, nil
	}, nil
}

// defaultMage is the command that builds: that of $MAGE, which templates set, mage, or that of a
// project whose tool it is.
func defaultMage() []string {
	if words := strings.Fields(os.Getenv("MAGE")); len(words) > 0 {
		return words
	}
	if _, err := exec.LookPath("mage"); err == nil {
		return []string{"mage"}
	}
	return []string{"go", "tool", "mage"}
}

// tags lists the tags of a project, for completion.
func tags(ctx context.Context, dir string) []string {
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "tag").Output()
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))
}

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/ci/devices"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// bspCommand has the commands of pipelines that build BSPs.
func bspCommand(t *tool) *cobra.Command {
	c := &cobra.Command{
		Use:   "bsp",
		Short: "Post BSPs to devices, and record what they were made of",
		Example: `  mage build rpi64 --locked --artefacts=artefacts.json
  pvci bsp manifest artefacts.json > bsp-manifest.json
  pvci bsp post artefacts.json --latest rpi64_bsp_latest --stable rpi64_bsp_stable`,
	}
	c.AddCommand(bspManifest(t), bspPost(t))
	return c
}

func bspFlags(c *cobra.Command, o *devices.BSPOptions) {
	c.Flags().StringVarP(&o.Dir, "directory", "C", ".", "`directory` of the project")
	c.Flags().StringVar(&o.Platform, "platform", "", "`name` of the platform, for the record")
}

func bspManifest(t *tool) *cobra.Command {
	var o devices.BSPOptions
	c := &cobra.Command{
		Use:   "manifest LIST",
		Short: "Print what a BSP was made of",
		Long: `Print what a BSP was made of, as JSON: the text of parts.lock with the packages that were used, the manifests release.xml
and default.xml of repo that the project has, project, commit and pipeline, all with their digests. LIST is the file of mage
build --artefacts.`,
		Example: "  pvci bsp manifest artefacts.json --platform rpi64 > bsp-manifest.json",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.List, o.Env = args[0], os.Environ()
			s, err := o.Sources(cmd.Context())
			if err != nil {
				return err
			}
			asJSON := *t
			asJSON.json = true
			return asJSON.print("", s)
		},
	}
	bspFlags(c, &o)
	return c
}

func bspPost(t *tool) *cobra.Command {
	var o devices.BSPOptions
	var latest, stable, list string
	c := &cobra.Command{
		Use:   "post LIST...",
		Short: "Post BSPs to devices",
		Long: `Post BSPs to devices: each becomes a part of the newest revision of its device, in place of the BSP there. A device that has
it already gets no revision. LIST is the file of mage build --artefacts.

In a pipeline of a tag the device is --stable, otherwise --latest; or --devices has one for each LIST. A device is one of the Hub
by name, with the account in PHUSER and PHPASS, the IP address of a device, a directory ("./…" or absolute), or s3://BUCKET/PREFIX.
The message of the revision has the digests of parts.lock and of the manifests of repo.`,
		Example: `  pvci bsp post artefacts.json --latest rpi64_bsp_latest --stable rpi64_bsp_stable
  pvci bsp post artefacts-x64-generic.json artefacts-arm-generic.json --devices "x64_generic arm_generic"
  pvci bsp post artefacts.json --latest ./device --dry-run --json`,
		Args: between(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Env = os.Environ()
			o.Say = func(line string) { fmt.Fprintln(t.stderr, "warning: "+line) }
			to, err := bspDevices(args, list, latest, stable)
			if err != nil {
				return err
			}
			done := []*devices.Posted{}
			var errs []error
			var text strings.Builder
			for i, file := range args {
				one := o
				one.List = file
				posted, err := one.Post(cmd.Context(), to[i])
				if err != nil { // the others are posted all the same
					errs = append(errs, err)
					continue
				}
				done = append(done, posted)
				if o.DryRun && posted.Posted {
					text.WriteString("would post to ")
				}
				text.WriteString(posted.String())
			}
			return errors.Join(append(errs, t.print(text.String(), done))...)
		},
	}
	bspFlags(c, &o)
	fs := c.Flags()
	fs.StringVar(&latest, "latest", "", "`device` for pipelines of branches, schedules and by hand")
	fs.StringVar(&stable, "stable", "", "`device` for pipelines of tags")
	fs.StringVar(&list, "devices", "", "`devices` separated by blanks, one for each LIST")
	fs.BoolVar(&o.DryRun, "dry-run", false, "print what would be posted, and post nothing")
	return c
}

// bspDevices returns a device for each list of results.
func bspDevices(lists []string, given, latest, stable string) ([]string, error) {
	if given != "" {
		if latest != "" || stable != "" {
			return nil, fault.New(fault.BadInput, "--devices and --latest or --stable contradict each other")
		}
		to := strings.Fields(given)
		if len(to) != len(lists) {
			return nil, fault.New(fault.BadInput, "%d BSPs and %d devices (PH_TARGET_DEVICE) are named: each BSP needs one", len(lists), len(to))
		}
		return to, nil
	}
	if len(lists) > 1 {
		return nil, fault.New(fault.BadInput, "several BSPs want --devices, with one for each")
	}
	one, err := devices.BSPDevice(os.Environ(), latest, stable)
	return []string{one}, err
}

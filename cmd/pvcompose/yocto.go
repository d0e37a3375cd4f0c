package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/images/adapters"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func (t *tool) fromYocto() *cobra.Command {
	var d adapters.Deployed
	var out string
	c := &cobra.Command{
		Use:   "from-yocto [LIST] [--deploy-dir DIR --image NAME --machine MACHINE]",
		Short: "Make the list of inputs from a build with Yocto",
		Long: "Make the list of inputs from the list that the layer meta-pantavisor-go has written, or from the deploy\n" +
			"directory of a build without the layer. Names of files are computed from the variables of the image's\n" +
			"testdata.json. What the build does not know, as the boot loader, is in a partial list, --with.\n" +
			"What was left out is told on standard error (docs/yocto.md).",
		Example: "  pvcompose from-yocto pv-bundle.json --out inputs.json\n" +
			"  pvcompose from-yocto --deploy-dir tmp/deploy/images/qemuarm64 --image core-image-minimal \\\n" +
			"    --machine qemuarm64 --with gateway.yaml --out inputs.json",
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := madeFrom(d, args)
			if err != nil {
				return err
			}
			return t.made(m, out)
		},
	}
	f := c.Flags()
	f.StringVar(&d.Dir, "deploy-dir", "", "DEPLOY_DIR_IMAGE of the build, tmp/deploy/images/MACHINE")
	f.StringArrayVar(&d.Images, "image", nil, "recipe of an image whose root file system becomes a container; several times for several")
	f.StringVar(&d.Machine, "machine", "", "MACHINE of the build")
	f.StringVar(&d.Type, "type", "", "type in IMAGE_FSTYPES of the root file system (default the only one that is read)")
	f.StringSliceVar(&d.Parts, "parts", nil, "what is taken: kernel, containers (default both)")
	f.StringVar(&d.With, "with", "", "partial list of inputs with what the build does not know")
	f.StringVar(&d.Layout, "wks", "", "wks file whose layout is imported when the partial list has none")
	f.IntVar(&d.Size, "size", 0, "size of the medium in MiB for such a layout")
	f.StringVar(&d.Target, "target", "", "name of the firmware (default the machine)")
	f.StringSliceVar(&d.Outputs, "outputs", nil, "what is made (default image,export,revision)")
	f.Int64Var(&d.Epoch, "epoch", 0, "time of the firmware in seconds since 1970 (default that of the image)")
	f.StringVarP(&out, "out", "o", "", "file for the list of inputs (default standard output)")
	return c
}

func madeFrom(d adapters.Deployed, args []string) (*adapters.Made, error) {
	switch {
	case len(args) > 1:
		return nil, fault.New(fault.BadInput, "unexpected word %q", args[1])
	case len(args) == 1 && d.Dir != "":
		return nil, fault.New(fault.BadInput, "want a list or --deploy-dir, not both")
	case len(args) == 1:
		return adapters.ReadYocto(args[0])
	case d.Dir == "":
		return nil, fault.New(fault.BadInput, "name the list that the layer has written, or the deploy directory: --deploy-dir DIR --image NAME --machine MACHINE")
	}
	return adapters.FromDeployed(d)
}

// made writes the list that an adapter has made, and tells what was left out.
func (t *tool) made(m *adapters.Made, out string) error {
	for _, n := range m.Notes {
		fmt.Fprintln(t.stderr, n)
	}
	if out != "" {
		return m.List.Write(out)
	}
	text, err := m.List.Encode()
	if err != nil {
		return err
	}
	_, err = t.stdout.Write(text)
	return fault.Wrap(fault.IO, err, "writing the list of inputs")
}

package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/images/adapters"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// buildrootOptions are those of from-buildroot.
type buildrootOptions struct {
	adapters.Buildroot
	out, epoch string
	digests    bool
	// forms, groups, roles and arguments say more of containers: NAME=VALUE.
	forms, groups, roles, arguments []string
}

func (t *tool) fromBuildroot() *cobra.Command {
	var o buildrootOptions
	c := &cobra.Command{
		Use:   "from-buildroot [NAME=]DIR...",
		Short: "Make the list of inputs from output directories of Buildroot",
		Long: "Make the list of inputs from output directories of Buildroot: the one with a kernel becomes the BSP, each\n" +
			"other one a container, called NAME or as its BR2_PANTAVISOR_CONTAINER_NAME says. Names of files are computed\n" +
			"from the builds' .config. What it does not say, as the boot loader, is in a partial list, --with.\n" +
			"What was left out is told on standard error (docs/buildroot.md).",
		Example: "  pvcompose from-buildroot output --with gateway.yaml --epoch 1700000000 --out inputs.json\n" +
			"  pvcompose from-buildroot bsp-output app=app-output --target gateway --group app=app \\\n" +
			"    --with gateway.yaml --genimage board/gateway/genimage.cfg --epoch 1700000000 --out inputs.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := o.list(args)
			if err != nil {
				return err
			}
			if o.digests {
				if err := m.List.Digest(cmd.Context()); err != nil {
					return err
				}
			}
			return t.made(m, o.out)
		},
	}
	f := c.Flags()
	f.StringVar(&o.With, "with", "", "partial list of inputs with what the builds do not know; ${BINARIES_DIR} in it is images/ of the BSP")
	f.StringVar(&o.Target, "target", "", "name of the firmware (default BR2_PANTAVISOR_TARGET)")
	f.StringVar(&o.Release, "release", "", "version of the firmware")
	f.StringSliceVar(&o.Outputs, "outputs", nil, "what is made (default image,export,revision with a layout, export without, containers without a kernel)")
	f.StringVar(&o.epoch, "epoch", "", "time of the firmware in seconds since 1970 (default SOURCE_DATE_EPOCH of the environment)")
	f.StringVar(&o.Genimage, "genimage", "", "genimage.cfg whose layout is imported")
	f.IntVar(&o.Size, "size", 0, "size of the medium in MiB for such a layout (default what the file says)")
	f.StringArrayVar(&o.forms, "form", nil, "NAME=FORM, root file system of a container: squashfs, tar or cpio (default the first one that is built)")
	f.StringArrayVar(&o.groups, "group", nil, "NAME=GROUP of a container")
	f.StringArrayVar(&o.roles, "role", nil, "NAME=ROLE of a container, several times for several")
	f.StringArrayVar(&o.arguments, "arg", nil, "NAME=ARGUMENT=VALUE of a container, several times for several")
	f.BoolVar(&o.digests, "digests", false, "read all inputs and write their digests into the list")
	f.StringVarP(&o.out, "out", "o", "", "file for the list of inputs (default standard output)")
	return c
}

// list makes the list.
func (o *buildrootOptions) list(args []string) (*adapters.Made, error) {
	if err := o.builds(args); err != nil {
		return nil, err
	}
	if err := o.time(); err != nil {
		return nil, err
	}
	if err := o.containers(); err != nil {
		return nil, err
	}
	return o.List()
}

// builds takes the output directories.
func (o *buildrootOptions) builds(args []string) error {
	for _, word := range args {
		b := adapters.BuildrootBuild{Dir: word}
		if name, dir, given := strings.Cut(word, "="); given && !strings.Contains(name, "/") {
			b.Container, b.Dir = name, dir
		}
		if b.Dir == "" {
			return fault.New(fault.BadInput, "%q: want an output directory of Buildroot, or NAME=DIR", word)
		}
		o.Builds = append(o.Builds, b)
	}
	for _, word := range o.forms {
		name, form, err := pair("--form", word)
		if err != nil {
			return err
		}
		found := false
		for i := range o.Builds {
			if o.Builds[i].Container == name {
				o.Builds[i].Form, found = form, true
			}
		}
		if !found {
			return fault.New(fault.BadInput, "--form %s: no output directory is given as %s=DIR", word, name)
		}
	}
	return nil
}

// time takes the epoch, which is never the clock's.
func (o *buildrootOptions) time() error {
	text, from := o.epoch, "--epoch"
	if text == "" {
		text, from = os.Getenv("SOURCE_DATE_EPOCH"), "SOURCE_DATE_EPOCH"
	}
	if text == "" {
		return nil // the partial list may have it
	}
	epoch, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fault.New(fault.BadInput, "%s %q: want seconds since 1970", from, text)
	}
	o.Epoch = int64(epoch)
	return nil
}

// containers takes what options say of containers, which is more than what the partial list does.
func (o *buildrootOptions) containers() error {
	for _, option := range []struct {
		name  string
		words []string
		set   func(args map[string]any, value string) error
	}{
		{"--group", o.groups, func(args map[string]any, value string) error { args["PV_GROUP"] = value; return nil }},
		{"--role", o.roles, func(args map[string]any, value string) error {
			before, _ := args["PV_ROLES"].([]string)
			args["PV_ROLES"] = append(before, value)
			return nil
		}},
		{"--arg", o.arguments, func(args map[string]any, value string) error {
			name, v, err := pair("--arg", value)
			args[name] = v
			return err
		}},
	} {
		for _, word := range option.words {
			name, value, err := pair(option.name, word)
			if err != nil {
				return err
			}
			if err := option.set(o.argumentsOf(name), value); err != nil {
				return err
			}
		}
	}
	return nil
}

// argumentsOf returns the arguments of a container.
func (o *buildrootOptions) argumentsOf(name string) map[string]any {
	if o.Args == nil {
		o.Args = map[string]map[string]any{}
	}
	if o.Args[name] == nil {
		o.Args[name] = map[string]any{}
	}
	return o.Args[name]
}

// pair splits NAME=VALUE.
func pair(option, word string) (name, value string, err error) {
	name, value, given := strings.Cut(word, "=")
	if !given || name == "" || value == "" {
		return "", "", fault.New(fault.BadInput, "%s %s: want NAME=VALUE", option, word)
	}
	return name, value, nil
}

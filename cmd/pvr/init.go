package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

func newInit(t *tool) *cobra.Command {
	var opt repo.InitOptions
	cmd := &cobra.Command{
		Use:     "init",
		Aliases: []string{"i"},
		Short:   "Make a repository in the working directory",
		Example: "  pvr init\n  pvr init --objects ../../objects",
		RunE: func(*cobra.Command, []string) error {
			if err := t.storeDir(&opt); err != nil {
				return err
			}
			return repo.Init(".", opt)
		},
	}
	initFlags(cmd.Flags(), &opt)
	return cmd
}

// initFlags declares what init and clone say of a new repository.
func initFlags(fs *pflag.FlagSet, opt *repo.InitOptions) {
	text(fs, &opt.Objects, "objects", "o", "PVR_OBJECTS_DIR", "", "`directory` of the objects (default objects in the config directory)")
	text(fs, &opt.Spec, "spec", "s", "", state.Spec, "`version` of the state format")
}

// storeDir makes the path of the object store absolute.
func (t *tool) storeDir(opt *repo.InitOptions) error {
	if opt.Objects == "" {
		opt.Objects = filepath.Join(t.configDir, "objects")
		if err := os.MkdirAll(t.configDir, 0o700); err != nil {
			return fail(4, err)
		}
	}
	abs, err := filepath.Abs(opt.Objects)
	opt.Objects = abs
	return err
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/repo"
)

func newClone(t *tool) *cobra.Command {
	opt := repo.CloneOptions{}
	cmd := &cobra.Command{
		Use:     "clone REPO[#PARTS] [DIR]",
		Aliases: []string{"c"},
		Short:   "Make a checkout of another repository",
		Example: "  pvr clone nick/device\n  pvr clone 192.168.0.17 mydevice\n  pvr clone device.tgz#bsp bsp-only",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 {
				return failf(2, "clone needs need repository argument. See --help")
			}
			if len(args) > 2 {
				return failf(2, "clone can have at most 2 arguments. See --help")
			}
			return t.clone(cmd, args, opt)
		},
		ValidArgsFunction: completeRepos,
	}
	initFlags(cmd.Flags(), &opt.Init)
	flag(cmd.Flags(), &opt.Checkout.Canonical, "canonical", "c", "PVR_CANONICAL_JSON", "write JSON in canonical form")
	return cmd
}

// cloneCodes are the exit codes of the stages of clone.
var cloneCodes = map[repo.Stage]int{repo.StageInit: 6, repo.StageTransfer: 7, repo.StageCheckout: 8, repo.StagePlace: 9}

func (t *tool) clone(cmd *cobra.Command, args []string, opt repo.CloneOptions) error {
	if err := t.storeDir(&opt.Init); err != nil {
		return err
	}
	ref, src, err := t.source(args[0], true)
	if err != nil {
		return fail(7, err)
	}
	target := ref.Base()
	if len(args) == 2 {
		target = args[1]
	}
	if target, err = filepath.Abs(target); err != nil {
		return fail(6, err)
	}
	opt.Open = repo.Options{Cache: filepath.Join(t.configDir, "cache")}
	opt.Pulled = func(p *repo.Pulled) {
		var lines bytes.Buffer // of thousands of objects
		for _, o := range p.Objects {
			fmt.Fprintf(&lines, "pulling objects file %s-> %s.new\n", o.From, filepath.Join(opt.Init.Objects, o.Sum))
		}
		_, _ = t.stderr.Write(lines.Bytes())
		t.warnUnmatched(p.Unmatched, args[0], p.State)
	}
	err = repo.Clone(cmd.Context(), src, ref, target, opt)
	var stage *repo.StageError
	if errors.As(err, &stage) {
		return fail(cloneCodes[stage.Stage], err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "Successfully cloned: %s\n", target)
	return nil
}

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func newAdd(t *tool) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:     "add [PATTERN]...",
		Aliases: []string{"a"},
		Short:   "Put files on the list of what the next commit takes up",
		Long: `Put files on the list of what the next commit takes up: all without a pattern or
with ".", else those whose whole path matches. * and ? do not cross a slash, so
"app/*" is what is directly in app; a directory's name alone adds nothing.

Only contents are recorded: execute bits, owners and times are lost, and of a
symbolic link the content that it leads to is taken.`,
		Example: "  pvr add .\n  pvr add 'app/*' device.json\n  pvr add --raw app/big.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			count, unmatched, err := r.Add(cmd.Context(), args, raw)
			if err != nil {
				return fail(3, err)
			}
			for _, p := range unmatched {
				fmt.Fprintf(t.stderr, "WARNING: %s matches no file%s\n", p, directoryHint(p))
			}
			if count == 0 && len(unmatched) == 0 {
				fmt.Fprintln(t.stderr, "WARNING: there is nothing to add")
			}
			return nil
		},
	}
	flag(cmd.Flags(), &raw, "raw", "r", "PVR_ADD_RAW", "keep .json files as objects, byte for byte")
	return cmd
}

func directoryHint(pattern string) string {
	if info, err := os.Stat(pattern); err == nil && info.IsDir() {
		return fmt.Sprintf("; it is a directory, %s/* is what it holds", pattern)
	}
	return ""
}

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/repo"
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
symbolic link to a file the content that it leads to is taken. Other symbolic links,
FIFOs, sockets and devices are skipped with a warning.`,
		Example: "  pvr add .\n  pvr add 'app/*' device.json\n  pvr add --raw app/big.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			added, err := r.Add(cmd.Context(), args, raw)
			if err != nil {
				return fail(3, err)
			}
			t.addWarnings(added)
			return nil
		},
	}
	flag(cmd.Flags(), &raw, "raw", "r", "PVR_ADD_RAW", "keep .json files as objects, byte for byte")
	return cmd
}

// maxWarnings bounds the warnings of one kind.
const maxWarnings = 20

// addWarnings tells what was not added.
func (t *tool) addWarnings(added *repo.Added) {
	for i, s := range added.Skipped {
		if i == maxWarnings {
			fmt.Fprintf(t.stderr, "WARNING: %d more names are not files and are not added\n", len(added.Skipped)-i)
			break
		}
		fmt.Fprintf(t.stderr, "WARNING: %s is %s and is not added\n", s.Key, s.Why)
	}
	for _, p := range added.Unmatched {
		if p == "" {
			fmt.Fprintln(t.stderr, "WARNING: an empty pattern matches no file")
			continue
		}
		fmt.Fprintf(t.stderr, "WARNING: %s matches no file%s\n", p, directoryHint(p))
	}
	if added.Count+len(added.Skipped)+len(added.Unmatched) == 0 {
		fmt.Fprintln(t.stderr, "WARNING: there is nothing to add")
	}
}

func directoryHint(pattern string) string {
	if info, err := os.Stat(pattern); err == nil && info.IsDir() {
		return fmt.Sprintf("; it is a directory, %s/* is what it holds", strings.TrimSuffix(pattern, "/"))
	}
	return ""
}

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

const nothingToCommit = "nothing to commit; pvr add puts new files on the list of the next commit\n"

func newCommit(t *tool) *cobra.Command {
	var opt repo.CommitOptions
	cmd := &cobra.Command{
		Use:     "commit",
		Aliases: []string{"ci"},
		Short:   "Make the working tree the committed state",
		Example: "  pvr commit -m \"new configuration\"\n  pvr commit --checkpoint",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			var changes []repo.Committed
			opt.Report = func(c repo.Committed) { changes = append(changes, c) }
			if err := r.Commit(cmd.Context(), opt); err != nil {
				return err
			}
			if len(changes) == 0 {
				fmt.Fprint(t.stderr, nothingToCommit)
			}
			for _, op := range []state.Op{state.Changed, state.Added, state.Deleted} {
				for _, c := range changes {
					if c.Op == op {
						fmt.Fprintln(t.stderr, commitLine(r.Dir(), c))
					}
				}
			}
			if err := compatible(r.Committed()); err != nil {
				fmt.Fprintf(t.stderr, "WARN: %v; a device will not take this state as it is\n", err)
			}
			return nil
		},
	}
	text(cmd.Flags(), &opt.Message, "message", "m", "", repo.NoMessage, "`text` that says what changed")
	flag(cmd.Flags(), &opt.Checkpoint, "checkpoint", "c", "", "mark the state with the time, in checkpoint.json")
	return cmd
}

// compatible returns an error when parts of a state do not go together.
func compatible(st *state.State) error {
	parts, err := manifest.Declared(st)
	if err != nil {
		return err
	}
	if bad := compat.Check(parts); bad != nil {
		return bad
	}
	return nil
}

func commitLine(dir string, c repo.Committed) string {
	path := filepath.Join(dir, c.Key)
	switch {
	case c.Op == state.Deleted:
		return "Removing " + c.Key
	case c.Op == state.Changed && c.Object == "":
		return "Committing (inline): " + path
	case c.Op == state.Changed:
		return "Committing (raw): " + path
	case c.Object == "":
		return "Adding inline " + c.Key
	}
	return "Adding raw " + path + " with " + c.Object
}

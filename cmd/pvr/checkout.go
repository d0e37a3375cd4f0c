package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/repo"
)

func newCheckout(t *tool) *cobra.Command {
	var opt repo.CheckoutOptions
	cmd := &cobra.Command{
		Use:     "checkout",
		Aliases: []string{"co", "reset", "r"},
		Short:   "Write the committed files over the working tree",
		Long: `Write the committed files over the working tree. Local changes are overwritten
without a question and the add list is dropped; files that are not in the state
stay.`,
		Example: "  pvr checkout\n  pvr checkout --canonical\n  pvr checkout --hardlink",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			opt.Copied = t.tellCopied
			return fail(3, r.Checkout(cmd.Context(), opt))
		},
	}
	flag(cmd.Flags(), &opt.Hardlink, "hardlink", "", "", "link objects instead of copying them (--hl)")
	flag(cmd.Flags(), &opt.Canonical, "canonical", "c", "PVR_CANONICAL_JSON", "write JSON in canonical form")
	return cmd
}

// tellCopied reports objects that a checkout with hard links had to copy.
func (t *tool) tellCopied(n int) {
	fmt.Fprintf(t.stderr, "WARNING: %d objects are copied, not linked: the store is on another file system, or they have too many links\n", n)
}

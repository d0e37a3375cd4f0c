package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/repo"
)

// wide is the layout of JSON that is meant for people.
var wide = canon.Style{Indent: "    "}

func newJSON(t *tool) *cobra.Command {
	var canonical, asJSON bool
	cmd := &cobra.Command{
		Use:     "json",
		Aliases: []string{"j"},
		Short:   "Print the working tree as a state",
		Example: "  pvr json\n  pvr json --canonical | sha256sum",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := t.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer r.Close()
			w, err := r.Working(cmd.Context())
			if err != nil {
				return fail(3, err)
			}
			if canonical {
				return t.print(w.State.Encode())
			}
			return t.print(w.State.Pretty(canon.Tabs))
		},
	}
	flag(cmd.Flags(), &canonical, "canonical", "c", "", "print the canonical form")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newDiff(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "diff [NAME]...",
		Aliases: []string{"d"},
		Short:   "Print what changed since the commit, as a JSON merge patch",
		Example: "  pvr diff\n  pvr diff app/run.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := t.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer r.Close()
			patch, err := r.Diff(cmd.Context(), args...)
			if err != nil {
				return fail(3, err)
			}
			return t.print(patch.Pretty(canon.Style{Indent: "\t", HTML: true}))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newStatus(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status [NAME]...",
		Aliases: []string{"s"},
		Short:   "List the files that differ from the commit",
		Long: `List the files that differ from the commit, limited to files, directories and patterns
when they are given:

  A  added, in the next commit
  D  deleted
  C  changed
  ?  neither committed nor added`,
		Example: "  pvr status\n  pvr status app bsp/run.json\n  pvr status --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := t.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer r.Close()
			changes, err := r.Status(cmd.Context(), args...)
			if err != nil {
				return fail(3, err)
			}
			type line struct {
				Status string `json:"status"`
				Path   string `json:"path"`
			}
			lines := []line{}
			for _, c := range changes {
				lines = append(lines, line{string(rune(c.Op)), c.Key})
			}
			if asJSON {
				return t.printJSON(lines)
			}
			for _, l := range lines {
				fmt.Fprintf(t.stdout, "%s %s\n", l.Status, l.Path)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newInspect(t *tool) *cobra.Command {
	var canonical, asJSON bool
	cmd := &cobra.Command{
		Use:     "inspect [REPO]",
		Short:   "Print the committed state of a repository",
		Example: "  pvr inspect\n  pvr inspect device.tgz\n  pvr inspect --canonical nick/device",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("Get can have at most 1 argument. See --help.") //nolint:revive,staticcheck // the customary text
			}
			name := repo.Dir
			if len(args) == 1 {
				name = args[0]
			} else if _, err := checkout(); err != nil {
				return err
			}
			_, src, err := t.source(name, false)
			if err != nil {
				return fail(2, err)
			}
			st, err := src.State(cmd.Context())
			if err != nil {
				return fail(3, err)
			}
			if canonical {
				return t.print(st.Encode())
			}
			return t.print(st.Pretty(canon.Style{Indent: "\t", HTML: true}))
		},
		ValidArgsFunction: completeRepos,
	}
	flag(cmd.Flags(), &canonical, "canonical", "c", "", "print the canonical form")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// jsonFlag declares --json. Queries that print JSON anyway take it, too, so that a
// script need not know which do.
func jsonFlag(cmd *cobra.Command, p *bool) {
	cmd.Flags().BoolVar(p, "json", false, "print JSON")
}

// print writes a text and a newline.
func (t *tool) print(text []byte) error {
	_, err := t.stdout.Write(append(text, '\n'))
	return err
}

// printJSON writes a value as JSON for people and programs.
func (t *tool) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	return t.print(text)
}

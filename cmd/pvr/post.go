package main

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/repo"
)

func remoteCommands(t *tool) []*cobra.Command {
	return []*cobra.Command{
		newPost(t), newPut(t), newPutObjects(t), newRemoteInfo(t), newStepInfo(t), newFastCopy(t),
		newLogin(t), newRegister(t), newWhoAmI(t), newClaim(t), newDevice(t),
		deprecated(t, newDeviceScan(t)), deprecated(t, newDevicePs(t)), deprecated(t, newDeviceLogs(t)), newDMConvert(t), newDMApply(t),
	}
}

// postFlags declares what goes with a posted state.
func postFlags(cmd *cobra.Command, opt *remote.PostOptions) {
	fs := cmd.Flags()
	text(fs, &opt.Envelope, "envelope", "e", "", "", "`JSON` object whose members are sent along")
	text(fs, &opt.Message, "commit-msg", "m", "", "", "`text` that says what changed")
	fs.IntVar(&opt.Revision, "rev", remote.NextRevision, "`number` of the revision; -1 for the next")
	flag(fs, &opt.Force, "force", "f", "", "send objects that the remote already has, too")
}

func newPost(t *tool) *cobra.Command {
	var opt remote.PostOptions
	var incompatible bool
	cmd := &cobra.Command{
		Use:     "post [REPO]",
		Aliases: []string{"po", "push"},
		Short:   "Make the committed state a device's next revision",
		Example: "  pvr post -m \"new configuration\"\n  pvr post 192.168.0.17",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("post can have at most 1 argument. See --help.") //nolint:revive,staticcheck // the customary text
			}
			return t.post(cmd, args, opt, incompatible)
		},
		ValidArgsFunction: completeRepos,
	}
	postFlags(cmd, &opt)
	flag(cmd.Flags(), &incompatible, "incompatible", "", "", "post a state whose parts do not go together; devices that know their declarations will not take it")
	return cmd
}

func (t *tool) post(cmd *cobra.Command, args []string, opt remote.PostOptions, incompatible bool) error {
	r, err := t.open(cmd.Context(), true)
	if err != nil {
		return err
	}
	defer r.Close()
	config := r.Config()
	if len(args) == 0 && config.DefaultPostUrl == "" {
		return noRemote(cmd, 2)
	}
	if err := compatible(r.Committed()); err != nil && !incompatible {
		return failf(3, "%w; pvr post --incompatible posts it all the same", err)
	}
	client, ref, err := t.destination(args, config.DefaultPostUrl)
	if err != nil {
		return err
	}
	defer client.Close()
	store, err := r.Objects()
	if err != nil {
		return fail(3, err)
	}
	posted, err := client.Post(cmd.Context(), ref, r.Committed(), store, opt)
	if err != nil {
		fmt.Fprintf(t.stdout, "ERROR: %v\n", err)
		return fail(3, err)
	}
	fmt.Fprintln(t.stderr, posted)
	config.DefaultPostUrl = ref.URL.String()
	for _, p := range []*string{&config.DefaultGetUrl, &config.DefaultPutUrl} {
		if *p == "" {
			*p = config.DefaultPostUrl
		}
	}
	return r.SetConfig(config)
}

func newPut(t *tool) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "put [REPO]",
		Aliases: []string{"p"},
		Short:   "Replace the state of a remote's current revision",
		Example: "  pvr put https://example.com/trails/ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return failf(2, "Push can have at most 1 argument. See --help.")
			}
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			if len(args) == 0 && r.Config().DefaultPutUrl == "" {
				return noRemote(cmd, 2)
			}
			client, ref, err := t.destination(args, r.Config().DefaultPutUrl)
			if err != nil {
				return err
			}
			defer client.Close()
			store, err := r.Objects()
			if err != nil {
				return fail(remote.ExitHub, err)
			}
			return fail(remote.ExitHub, client.Put(cmd.Context(), ref, r.Committed(), store, force))
		},
		ValidArgsFunction: completeRepos,
	}
	flag(cmd.Flags(), &force, "force", "f", "", "send objects that the remote already has, too")
	return cmd
}

func newPutObjects(t *tool) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "putobjects OBJECTS-URL",
		Short:   "Send the committed state's objects to an endpoint",
		Example: "  pvr putobjects https://api.pantahub.com/objects",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return failf(2, "Push requires exactly 1 argument. See --help.")
			}
			r, err := t.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer r.Close()
			var endpoint *url.URL
			if endpoint, err = remote.ParseURL(args[0]); err != nil {
				return fail(remote.ExitHub, err)
			}
			store, err := r.Objects()
			if err != nil {
				return fail(remote.ExitHub, err)
			}
			client, err := t.client()
			if err != nil {
				return fail(remote.ExitHub, err)
			}
			defer client.Close()
			_, err = client.PutObjects(cmd.Context(), endpoint, r.Committed().Objects(), store, force)
			return fail(remote.ExitHub, err)
		},
	}
	flag(cmd.Flags(), &force, "force", "f", "", "send objects that the remote already has, too")
	return cmd
}

// newInfo makes remoteinfo and stepinfo.
func newInfo(t *tool, use, short string, read func(*cobra.Command, *remote.Client, remote.Reference) (canon.Value, error)) *cobra.Command {
	var canonical, asJSON bool
	cmd := &cobra.Command{
		Use:     use + " REPO",
		Short:   short,
		Example: "  pvr " + use + " nick/device",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("Get can have at most 1 argument. See --help.") //nolint:revive,staticcheck // the customary text
			}
			if len(args) == 0 {
				return errors.New("a repository is required. See --help")
			}
			client, ref, err := t.destination(args, "")
			if err != nil {
				return err
			}
			defer client.Close()
			doc, err := read(cmd, client, ref)
			if err != nil {
				return fail(remote.ExitTransfer, err)
			}
			if canonical {
				return t.print(doc.Encode())
			}
			return t.print(doc.Pretty(canon.Style{Indent: "\t", HTML: true}))
		},
		ValidArgsFunction: completeRepos,
	}
	flag(cmd.Flags(), &canonical, "canonical", "c", "", "print the canonical form")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newRemoteInfo(t *tool) *cobra.Command {
	cmd := newInfo(t, "remoteinfo", "Print a remote repository's description of itself",
		func(cmd *cobra.Command, c *remote.Client, ref remote.Reference) (canon.Value, error) {
			info, err := c.RemoteInfo(cmd.Context(), ref)
			if err != nil {
				return canon.Value{}, err
			}
			return info.Doc, nil
		})
	cmd.Aliases = []string{"ri"}
	return cmd
}

func newStepInfo(t *tool) *cobra.Command {
	return newInfo(t, "stepinfo", "Print a revision with its message and progress",
		func(cmd *cobra.Command, c *remote.Client, ref remote.Reference) (canon.Value, error) {
			return c.StepInfo(cmd.Context(), ref)
		})
}

func newFastCopy(t *tool) *cobra.Command {
	var opt remote.PostOptions
	var merge bool
	cmd := &cobra.Command{
		Use:     "fastcopy SOURCE[#PARTS] DESTINATION[#PARTS]",
		Aliases: []string{"fcp"},
		Short:   "Copy a state from remote to remote without its objects",
		Example: "  pvr fastcopy nick/lab nick/field\n  pvr fastcopy 'nick/lab#app' 'nick/field#app2'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("fastcopy must have exacty 2 arguments. See --help")
			}
			return fail(remote.ExitTransfer, t.fastCopy(cmd, args, opt, merge))
		},
		ValidArgsFunction: completeRepos,
	}
	postFlags(cmd, &opt)
	flag(cmd.Flags(), &merge, "merge", "", "", "lay the source over the destination instead of replacing parts")
	return cmd
}

func (t *tool) fastCopy(cmd *cobra.Command, args []string, opt remote.PostOptions, merge bool) error {
	ctx := cmd.Context()
	client, from, err := t.destination(args[:1], "")
	if err != nil {
		return err
	}
	defer client.Close()
	to, err := client.Reference(args[1])
	if err != nil {
		return err
	}
	var infos [2]*remote.Info
	for i, ref := range []remote.Reference{from, to} {
		if infos[i], err = client.RemoteInfo(ctx, ref); err != nil {
			return err
		}
	}
	src, err := client.State(ctx, infos[0])
	if err != nil {
		return err
	}
	dst, err := client.State(ctx, infos[1])
	if err != nil {
		return err
	}
	st, err := repo.FastCopy(src, dst, from.Fragment, to.Fragment, merge)
	if err != nil {
		return err
	}
	posted, err := client.PostState(ctx, infos[1], st, opt)
	if err != nil {
		return err
	}
	fmt.Fprintln(t.stderr, posted)
	return nil
}

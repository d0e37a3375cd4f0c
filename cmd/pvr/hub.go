package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/remote"
)

// withClient runs something with a client; errors get the hub commands' exit code.
func (t *tool) withClient(do func(*remote.Client) error) error {
	client, err := t.client()
	if err != nil {
		return fail(remote.ExitHub, err)
	}
	defer client.Close()
	return fail(remote.ExitHub, do(client))
}

// printDoc prints a reply.
func (t *tool) printDoc(doc canon.Value) error {
	style := wide
	style.HTML = true
	return t.print(doc.Pretty(style))
}

func newLogin(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "login [URL]",
		Aliases: []string{"lo"},
		Short:   "Log in and keep the token",
		Example: "  pvr login",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("post can have at most 1 argument. See --help.") //nolint:revive,staticcheck // the customary text
			}
			return t.withClient(func(c *remote.Client) error {
				endpoint := strings.Join(args, "")
				u, err := c.StatusURL(endpoint)
				if err != nil {
					return err
				}
				who, err := c.Login(cmd.Context(), endpoint)
				if err != nil {
					return err
				}
				fmt.Fprintf(t.stdout, "Response of GET %s\n", u)
				if err := t.printDoc(who.Doc); err != nil {
					return err
				}
				fmt.Fprintln(t.stdout, "LoggedIn Successfully!")
				return nil
			})
		},
	}
}

func newRegister(t *tool) *cobra.Command {
	var a remote.Account
	cmd := &cobra.Command{
		Use:     "register [URL]",
		Aliases: []string{"reg"},
		Short:   "Make an account",
		Example: "  pvr register --user nick --email nick@example.com --pass secret",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return failf(2, "Only one argument (pantahub url) allowed. See --help.")
			}
			return t.withClient(func(c *remote.Client) error {
				link, err := c.Register(cmd.Context(), strings.Join(args, ""), a)
				if err != nil {
					return err
				}
				if link == "" {
					link = "the link that is sent to " + a.Email
				}
				fmt.Fprintf(t.stdout, "Finish the registration with %s\n", link)
				return nil
			})
		},
	}
	text(cmd.Flags(), &a.Nick, "user", "u", "", "", "`name` of the account")
	text(cmd.Flags(), &a.Password, "pass", "p", "", "", "`password`")
	text(cmd.Flags(), &a.Email, "email", "e", "", "", "`address` for the confirmation")
	return cmd
}

func newWhoAmI(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "whoami",
		Aliases: []string{"wai"},
		Short:   "Tell whose tokens are kept",
		Example: "  pvr whoami",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withClient(func(c *remote.Client) error {
				list, err := c.WhoAmI(cmd.Context())
				if asJSON {
					docs := []canon.Value{}
					for _, who := range list {
						docs = append(docs, who.Doc)
					}
					return errors.Join(t.printDoc(canon.List(docs...)), err)
				}
				for _, who := range list {
					fmt.Fprintln(t.stderr, who)
				}
				return err
			})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newClaim(t *tool) *cobra.Command {
	var challenge string
	cmd := &cobra.Command{
		Use:     "claim DEVICE",
		Aliases: []string{"cl"},
		Short:   "Make an unowned device yours",
		Example: "  pvr claim --challenge plainly-dynamic-wombat https://api.pantahub.com/devices/ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return failf(3, "You must specify a device to claim. See --help")
			}
			if challenge == "" {
				fmt.Fprint(t.stderr, "Enter Challenge: ")
				if _, err := fmt.Fscanln(t.stdin, &challenge); err != nil {
					return failf(4, "reading the challenge: %w", err)
				}
			}
			return t.withClient(func(c *remote.Client) error {
				_, err := c.Claim(cmd.Context(), args[0], challenge)
				return err
			})
		},
	}
	text(cmd.Flags(), &challenge, "challenge", "c", "", "", "`words` that the device shows")
	return cmd
}

func newDevice(t *tool) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "device",
		Aliases: []string{"dev"},
		Short:   "Work on devices of the hub",
		Example: "  pvr device ps\n  pvr device logs nick",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeviceScan(t), newDevicePs(t), newDeviceLogs(t), newDeviceGet(t), newDeviceSet(t), newDeviceCreate(t))
	return cmd
}

// deprecated makes a command at the top of one of device.
func deprecated(t *tool, cmd *cobra.Command) *cobra.Command {
	run := cmd.RunE
	cmd.Short += " (pvr device " + cmd.Name() + ")"
	cmd.RunE = func(c *cobra.Command, args []string) error {
		fmt.Fprintf(t.stdout, "\nDEPRECATED: use 'pvr device %s' instead\n", c.Name())
		return run(c, args)
	}
	return cmd
}

func newDevicePs(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "List your devices",
		Example: "  pvr device ps",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withClient(func(c *remote.Client) error {
				list, err := c.Devices(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return t.printJSON(list)
				}
				w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tNICK\tREV\tSTATUS\tSTATE\tSEEN\tIP\tMESSAGE")
				for _, d := range list {
					fmt.Fprintf(w, "%.8s\t%s\t%d\t%s\t%.8s\t%s\t%s\t%s\n", d.ID, d.Nick, d.Revision, d.Status, d.StateSum, seen(d.Seen), d.Address, d.Message)
				}
				return w.Flush()
			})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// seen tells how long ago a device was heard of.
func seen(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return time.Since(at).Truncate(time.Second).String() + " ago"
}

func newDeviceGet(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "get NICK",
		Short:   "Print what the hub knows of a device",
		Example: "  pvr device get owner/nick",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return failf(2, "Device ID or Nick is required. See --help")
			}
			return t.withClient(func(c *remote.Client) error {
				doc, err := c.Device(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return t.printDoc(doc)
			})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newDeviceSet(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "set NICK KEY[=VALUE]...",
		Aliases: []string{"se"},
		Short:   "Change a device's metadata",
		Example: "  pvr device set nick interval=60 obsolete",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return failf(2, "<NICK|ID> is required. See --help")
			case 1:
				return failf(2, "<KEY1>=<VALUE1> [KEY2]=[VALUE2].. is required. See --help")
			}
			return t.withClient(func(c *remote.Client) error {
				kind, _, err := c.SetDevice(cmd.Context(), args[0], args[1:])
				if err == nil {
					fmt.Fprintf(t.stdout, "%s field Updated Successfully\n", kind)
				}
				return err
			})
		},
	}
}

func newDeviceCreate(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "create [NICK]",
		Aliases: []string{"cr"},
		Short:   "Make a device whose factory state is the committed one",
		Example: "  pvr device create nick",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("Device create can have at most 1 argument. See --help") //nolint:revive,staticcheck // the customary text
			}
			r, err := t.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer r.Close()
			store, err := r.Objects()
			if err != nil {
				return fail(3, err)
			}
			return t.withClient(func(c *remote.Client) error {
				doc, err := c.CreateDevice(cmd.Context(), strings.Join(args, ""), r.Committed(), store)
				if doc.Kind() == canon.Object {
					err = errors.Join(t.printDoc(doc), err)
				}
				if err == nil {
					fmt.Fprintln(t.stdout, "Device Created Successfully")
				}
				return err
			})
		},
	}
}

// logFlags are the words that select log entries.
type logFlags struct {
	remote.LogFilter
	from, to, template string
}

func newDeviceLogs(t *tool) *cobra.Command {
	var l logFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "logs [DEVICES[/SOURCES[@LEVEL[#PLATFORM]]]]",
		Aliases: []string{"log"},
		Short:   "Follow the logs of devices",
		Example: "  pvr device logs nick\n  pvr device logs --from PT10M --template json nick\n  pvr device logs --template '{{.TimeCreated | timeformat \"Stamp\"}} {{.LogText | trunc 60}}' nick",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				l.take(remote.ParseLogSelector(args[0]))
			}
			if err := l.times(time.Now()); err != nil {
				return fail(5, err)
			}
			if asJSON {
				l.template = "json"
			}
			show, err := logPrinter(t.stdout, l.template)
			if err != nil {
				return fail(5, err)
			}
			return t.withClient(func(c *remote.Client) error { return c.Logs(cmd.Context(), l.LogFilter, logInterval, show) })
		},
	}
	fs := cmd.Flags()
	text(fs, &l.from, "from", "f", "", "PT1M", "`time` of the first entry: a date, date and time, or duration before now")
	text(fs, &l.to, "to", "t", "", "", "`time` of the last entry")
	text(fs, &l.Revisions, "rev", "r", "", "", "`list` of revisions")
	text(fs, &l.Devices, "device", "d", "", "", "`list` of devices")
	text(fs, &l.Sources, "source", "", "", "", "`list` of sources (--src)")
	text(fs, &l.Levels, "level", "l", "", "", "`list` of levels")
	text(fs, &l.Platforms, "platform", "p", "", "", "`list` of platforms")
	text(fs, &l.template, "template", "s", "", "short", "short, json, or a Go `template` over an entry")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// take fills what the flags leave open.
func (l *logFlags) take(f remote.LogFilter) {
	for _, p := range []struct {
		to   *string
		from string
	}{{&l.Devices, f.Devices}, {&l.Sources, f.Sources}, {&l.Levels, f.Levels}, {&l.Platforms, f.Platforms}} {
		if *p.to == "" {
			*p.to = p.from
		}
	}
}

func (l *logFlags) times(now time.Time) (err error) {
	if l.From, err = remote.ParseLogTime(l.from, now); err != nil {
		return err
	}
	if l.to != "" {
		l.To, err = remote.ParseLogTime(l.to, now)
	}
	return err
}

// logInterval is the pause between questions for newer entries.
const logInterval = time.Second

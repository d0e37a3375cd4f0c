package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/remote/scan"
)

// scanTime is how long the network is listened to when nothing else is said.
const scanTime = 15 * time.Second

func newDeviceScan(t *tool) *cobra.Command {
	var asJSON bool
	var span time.Duration
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "Look for devices on the local network",
		Long: `Look for devices on the local network, by multicast DNS. Devices without an owner
are shown with the command that makes them yours.`,
		Example: "  pvr device scan\n  pvr device scan --wait 5s --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.scan(cmd.Context(), span, asJSON)
		},
	}
	cmd.Flags().DurationVar(&span, "wait", scanTime, "`time` to listen, as in 5s")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (t *tool) scan(ctx context.Context, span time.Duration, asJSON bool) error {
	fmt.Fprintln(t.stderr, "Scanning ...")
	listening, stop := context.WithTimeout(ctx, span)
	defer stop()
	list, err := scan.Devices(listening, scan.Options{})
	if err != nil {
		return fail(1, err)
	}
	if asJSON {
		if err := t.printJSON(list); err != nil {
			return err
		}
	} else {
		describe(t.stderr, list)
	}
	return ctx.Err()
}

// describe tells of devices in the customary form.
func describe(w io.Writer, list []scan.Device) {
	for _, d := range list {
		owner := "unclaimed"
		if d.Owned() {
			owner = "owned"
		}
		fmt.Fprintf(w, "\tID: %s (%s)\n\tHost: %s\n\tIPv4: %v\n\tIPv6: %v\n\tPort: %d\n", d.ID, owner, d.Host, d.IPv4, d.IPv6, d.Port)
		if d.Owned() {
			fmt.Fprintf(w, "\tPantahub WWW: https://hub.pantacor.com/u/_/devices/%s\n\tPVR Clone: %s/trails/%[1]s\n", d.ID, d.Hub)
		} else {
			fmt.Fprintf(w, "\tClaim Cmd: pvr claim -c %s %s/devices/%s\n", d.Challenge, d.Hub, d.ID)
		}
	}
	fmt.Fprintf(w, "Pantavisor devices detected in network: %d (see above for details)\n", len(list))
}

// Command pv-network brings up a device's Ethernet from inside the container
// "network"; see package containers/network. It runs as the container's first
// process and ends on SIGTERM, SIGINT or SIGPWR.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/containers/control"
	"github.com/pantavisor/pantavisor/containers/network"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	defer stop()
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("reading the kernel command line: %w", err)
	}
	opts, problems := network.ParseCmdline(string(line))
	problems = append(problems, opts.Metadata("/pantavisor/user-meta")...)
	for _, p := range problems {
		log.Print(p)
	}
	return network.Run(ctx, network.Config{
		Options:    opts,
		ResolvConf: "/etc/resolv.conf",
		Socket:     control.Socket,
	})
}

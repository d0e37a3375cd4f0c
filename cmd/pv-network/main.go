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
	"path/filepath"

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

// metadata are the directories where the container's keys of user metadata may be: with the role
// mgmt, those of all containers are there, each in a directory with its name, which is this
// container's host name.
func metadata() []string {
	const dir = "/pantavisor/user-meta"
	name, err := os.Hostname()
	if err != nil || name != filepath.Base(name) || !filepath.IsLocal(name) {
		return []string{dir}
	}
	return []string{dir, filepath.Join(dir, name)}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	defer stop()
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("reading the kernel command line: %w", err)
	}
	opts, problems := network.ParseCmdline(string(line))
	for _, dir := range metadata() {
		problems = append(problems, opts.Metadata(dir)...)
	}
	for _, p := range problems {
		log.Print(p)
	}
	return network.Run(ctx, network.Config{
		Options:    opts,
		ResolvConf: "/etc/resolv.conf",
		Socket:     control.Socket,
	})
}

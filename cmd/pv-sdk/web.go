package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/containers/idle"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
	"github.com/pantavisor/pantavisor/runtime/web"
)

// memory is what the garbage collector keeps the heap below, in bytes: packages of any
// size pass through a server that shares the device with its applications.
const memory = 12 << 20

// webServer is pv-web, a device's web server (docs/web.md): the page at /app/, the pvtx REST API,
// and the repository for pvr. It ends on SIGTERM, SIGINT or SIGPWR.
func webServer(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	log.SetFlags(0)
	log.SetPrefix("pv-web: ")
	log.SetOutput(stderr)
	debug.SetMemoryLimit(memory)
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	defer stop()
	if err := runWeb(ctx, args, stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Print(err)
		return 1
	}
	return 0
}

// settings are the command line.
type settings struct {
	config, cmdline, listen, socket, logs, transaction string
	init                                               bool
}

const webHelp = `Usage: pv-web [options]

The web server of this device: the page at /app/, the pvtx REST API below /cgi-bin/,
and the repository for pvr clone and pvr post of the device's address.

It listens on 127.0.0.1:12368 unless "httpd" in the configuration or the word
pvrskd_httpd_listen=ADDRESS of the kernel's command line names another address; "off"
starts no server.

Options:
`

func parse(args []string, stdout io.Writer) (settings, error) {
	var s settings
	set := flag.NewFlagSet("pv-web", flag.ContinueOnError)
	set.SetOutput(stdout)
	set.Usage = func() { fmt.Fprint(stdout, webHelp); set.PrintDefaults() }
	set.StringVar(&s.config, "config", web.ConfigFile, "`file` with the configuration")
	set.StringVar(&s.cmdline, "cmdline", "/proc/cmdline", "`file` with the kernel's command line")
	set.StringVar(&s.listen, "listen", "", "`address` and port to listen on, whatever the configuration says")
	set.StringVar(&s.socket, "s", client.FindSocket(), "control `socket` of the device")
	set.StringVar(&s.logs, "logs", "/pantavisor/logs", "`directory` of the device's logs")
	set.StringVar(&s.transaction, "transaction", transactionDir(), "`directory` of the transaction, as PVTXDIR of pvtx")
	set.BoolVar(&s.init, "init", false, "be the first process of a container: stay without a server too, and collect ended processes")
	if err := set.Parse(args); err != nil {
		return s, err
	}
	if set.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q; see pv-web -h", set.Arg(0))
	}
	return s, nil
}

func transactionDir() string {
	if dir := os.Getenv("PVTXDIR"); dir != "" {
		return dir
	}
	return "/var/cache/pvtx" // as pvtx
}

func runWeb(ctx context.Context, args []string, stdout io.Writer) error {
	s, err := parse(args, stdout)
	if err != nil {
		return err
	}
	if !s.init {
		return s.serve(ctx)
	}
	go func() {
		if err := s.serve(ctx); err != nil {
			log.Print(err)
		}
	}()
	idle.Collect(ctx)
	return nil
}

func (s settings) serve(ctx context.Context) error {
	device := &client.Client{Socket: s.socket, Connect: 5 * time.Second}
	cmdline, err := os.ReadFile(s.cmdline)
	if err != nil {
		return fmt.Errorf("reading the kernel's command line: %w", err)
	}
	c := web.Configure(s.config, string(cmdline), func() (*state.State, error) { return running(ctx, device) })
	warn := func(text string) { log.Print("WARNING: " + text) }
	for _, text := range c.Warnings {
		warn(text)
	}
	if c.Off && s.listen == "" {
		log.Print("the configuration wants no web server")
		return nil
	}
	address := c.Listen.String()
	if s.listen != "" {
		address = s.listen
	}
	l, err := listen(ctx, address)
	if err != nil {
		return err
	}
	if addr, ok := l.Addr().(*net.TCPAddr); ok {
		if text := c.Judge(addr.AddrPort()); text != "" {
			warn(text)
		}
	}
	log.Printf("listening on http://%s/app/", l.Addr())
	return web.New(web.Options{
		Device: device, Transaction: pvtx.New(pvtx.Options{
			Dir: s.transaction, Device: device, Warn: warn,
		}),
		Logs: s.logs, Token: c.Token, Hosts: c.Hosts, Warnings: c.Warnings, Log: log.Default(),
	}).Serve(ctx, l)
}

// running returns the running state.
func running(ctx context.Context, device *client.Client) (*state.State, error) {
	doc, err := device.Text(ctx, "/steps/current")
	if err != nil {
		return nil, fmt.Errorf("asking for the running state: %w", err)
	}
	return state.Parse(doc)
}

// listenEach is the time between two attempts to listen.
const listenEach = 2 * time.Second

// listen waits for the address: the network that has it may come up later.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	for told := false; ; told = true {
		l, err := lc.Listen(ctx, "tcp", address)
		if !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EADDRINUSE) {
			return l, err
		}
		if !told {
			log.Printf("%v; waiting for the address", err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(listenEach):
		}
	}
}

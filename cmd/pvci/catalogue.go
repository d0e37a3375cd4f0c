package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/ci/catalogue"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

func catalogueCommand(t *tool) *cobra.Command {
	c := &cobra.Command{
		Use:   "catalogue",
		Short: "Keep the catalogue of releases: releases.json and the page for downloads",
		Long:  "Keep the catalogue of releases: releases.json and the page for downloads.\n\n" + storePlace,
		Example: `  pvci catalogue add s3://images/my-project out/release/x64-uefi-1.0 out/release/rpi64-1.0
  pvci catalogue check https://images.example/my-project --key release.pub
  pvci catalogue serve ./images
  mage flash rpi64 /dev/sdb --from https://images.example/my-project`,
	}
	c.AddCommand(catalogueAdd(t), catalogueRemove(t), catalogueCheck(t), catalogueServe(t))
	return c
}

// publicKey reads the file of a public key, nil for "".
func publicKey(file string) (*signing.Public, error) {
	if file == "" {
		return nil, nil
	}
	key, err := signing.LoadPublic(file)
	return key, fault.Wrap(fault.BadInput, err, "--key")
}

// publicAddress checks the option --url.
func publicAddress(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fault.New(fault.BadInput, "--url must be the address of a directory, https://HOST/PATH, without a user")
	}
	return strings.TrimSuffix(text, "/"), nil
}

const urlHelp = "the address at which others read the store (default: that of the bucket; for a directory relative addresses)"

func catalogueAdd(t *tool) *cobra.Command {
	var o catalogue.AddOptions
	var key, public string
	c := &cobra.Command{
		Use:   "add STORE DIR...",
		Short: "Upload releases and add them to the catalogue",
		Long: `Upload releases and add them to the catalogue. DIR is what mage release has made, or with --version
the directory out/TARGET of mage build. All files of a release are there before the catalogue names it. A
release that is there already stays as it is: a command that was interrupted can be repeated.

The channel follows from the version: 1.0 is stable, 1.0-rc2 a release candidate, 1.0-NAME belongs to the
channel NAME.`,
		Example: `  pvci catalogue add s3://images/my-project out/release/* --key release.pub
  pvci catalogue add ./images out/x64-uefi --version 1.0 --url https://images.example`,
		Args: func(cmd *cobra.Command, args []string) error { return between(2, 1000)(cmd, args) },
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s, err := openStore(args[0])
			if err != nil {
				return err
			}
			if o.Public, err = publicAddress(public); err != nil {
				return err
			}
			if o.Key, err = publicKey(key); err != nil {
				return err
			}
			added, err := catalogue.Add(cmd.Context(), s, o, args[1:])
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, a := range added {
				switch {
				case o.DryRun:
					fmt.Fprintf(&text, "%s %s would be added to the channel %s: %d files\n", a.Name, a.Version, a.Channel, len(a.Files))
				default:
					fmt.Fprintf(&text, "%s %s added to the channel %s: %d files, %d of them uploaded\n", a.Name, a.Version, a.Channel, len(a.Files), len(a.Uploaded))
				}
			}
			return t.print(text.String(), added)
		},
	}
	c.Flags().StringVar(&o.Version, "version", "", "version of a directory of mage build")
	c.Flags().StringVar(&o.Channel, "channel", "", "channel (default: what the version says)")
	c.Flags().StringVar(&key, "key", "", "public `FILE`: reject what is not signed with its key")
	c.Flags().StringVar(&o.Board.Description, "description", "", "what the board of a directory of mage build is")
	c.Flags().StringVar(&o.Board.Arch, "arch", "", "its architecture, as arm64")
	c.Flags().StringVar(&public, "url", "", urlHelp)
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "print what would be added")
	return c
}

func catalogueRemove(t *tool) *cobra.Command {
	var o catalogue.RemoveOptions
	var public string
	c := &cobra.Command{
		Use:     "remove STORE VERSION",
		Short:   "Take a version out of the catalogue and remove its files",
		Example: `  pvci catalogue remove s3://images/my-project 1.0-rc1 --board rpi64`,
		Args:    between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s, err := openStore(args[0])
			if err != nil {
				return err
			}
			if o.Public, err = publicAddress(public); err != nil {
				return err
			}
			r, err := catalogue.Remove(cmd.Context(), s, args[1], o)
			if err != nil {
				return err
			}
			how := "removed"
			if o.DryRun {
				how = "would be removed"
			}
			var text strings.Builder
			for _, f := range r.Releases {
				fmt.Fprintf(&text, "%s %s (%s) %s\n", f.Name, f.Version, f.Channel, how)
			}
			fmt.Fprintf(&text, "%d files %s\n", len(r.Files), how)
			return t.print(text.String(), r)
		},
	}
	c.Flags().StringVar(&o.Name, "board", "", "only this board")
	c.Flags().StringVar(&o.Channel, "channel", "", "only this channel")
	c.Flags().BoolVar(&o.KeepFiles, "keep-files", false, "leave the files in the store")
	c.Flags().StringVar(&public, "url", "", urlHelp)
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "print what would be removed")
	return c
}

func catalogueCheck(t *tool) *cobra.Command {
	var o catalogue.CheckOptions
	var key, public string
	c := &cobra.Command{
		Use:   "check STORE|URL",
		Short: "Compare digests and sizes of all files of a catalogue, and verify signatures",
		Long: `Compare digests and sizes of all files of a catalogue, and verify signatures. All files are read; with
--quick it is only asked whether they are there. STORE is read as such, URL as everybody reads it.`,
		Example: `  pvci catalogue check s3://images/my-project --version 1.0 --key release.pub
  pvci catalogue check https://images.example/my-project --quick`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Key, err = publicKey(key); err != nil {
				return err
			}
			at, err := publicAddress(public)
			if err != nil {
				return err
			}
			place, err := catalogue.OpenPlace(args[0], catalogue.Options{Public: at}, os.Environ())
			if err != nil {
				return err
			}
			if !t.json {
				o.Tell = func(c catalogue.Checked) { fmt.Fprint(t.stdout, checkedText(c, o.Quick)) }
			}
			list, err := catalogue.Check(cmd.Context(), place, o)
			if t.json && list != nil {
				err = errors.Join(err, t.print("", list))
			}
			return err
		},
	}
	c.Flags().StringVar(&o.Version, "version", "", "only this version")
	c.Flags().StringVar(&o.Name, "board", "", "only this board")
	c.Flags().StringVar(&o.Channel, "channel", "", "only this channel")
	c.Flags().BoolVar(&o.Quick, "quick", false, "ask whether files are there, and read only the lists")
	c.Flags().StringVar(&key, "key", "", "public `FILE`: every release must be signed with its key")
	c.Flags().StringVar(&public, "url", "", urlHelp)
	return c
}

// checkedText describes a release that was checked.
func checkedText(c catalogue.Checked, quick bool) string {
	text := fmt.Sprintf("%s %s (%s): ", c.Name, c.Version, c.Channel)
	switch {
	case len(c.Problems) > 0:
		return text + "wrong\n"
	case quick:
		text += fmt.Sprintf("%d files are there", c.Files)
	default:
		text += fmt.Sprintf("%d files with %s are good", c.Files, build.Size(c.Bytes))
	}
	if c.Signed {
		text += ", and signed"
	}
	return text + "\n"
}

func catalogueServe(t *tool) *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "serve STORE",
		Short: "Serve a catalogue and its files over HTTP",
		Long: `Serve a catalogue and its files over HTTP until it is interrupted: for a laptop or a bench of boards.
Everybody who reaches the address can read all of the store.`,
		Example: `  pvci catalogue serve ./images
  pvci catalogue serve ./images --listen 192.168.1.2:8000`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openStore(args[0])
			if err != nil {
				return err
			}
			if info, err := os.Stat(args[0]); !strings.Contains(args[0], "://") && (err != nil || !info.IsDir()) {
				return fault.New(fault.Missing, "the directory %s is not there", args[0])
			}
			l, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return fault.Wrap(fault.BadInput, err, "--listen")
			}
			if err := t.print(fmt.Sprintf("serving %s at http://%s/\n", s, l.Addr()), map[string]string{"url": "http://" + l.Addr().String() + "/"}); err != nil {
				return errors.Join(err, l.Close())
			}
			return serve(cmd.Context(), l, catalogue.Handler(s))
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8000", "`ADDRESS` and port; port 0 is a free one")
	return c
}

// serve serves until the context ends, which is no error: the user ends it.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.Wrap(fault.IO, err, "serving")
	}
	return nil
}

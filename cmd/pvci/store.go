package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// storePlace describes a store in help texts.
const storePlace = `STORE is a directory, or s3://BUCKET/PREFIX with the settings of Amazon's programs: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, and AWS_ENDPOINT_URL for another server.`

// storeCommand has the commands that move files without a further program.
func storeCommand(t *tool) *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "List, get, put and remove files in a directory or a bucket of S3",
		Long:  "List, get, put and remove files in a directory or a bucket of S3.\n\n" + storePlace,
		Example: `  pvci store put s3://images/my-project out/x64-uefi/x64-uefi.img.zst 1.0/x64-uefi.img.zst
  pvci store list s3://images/my-project 1.0/
  pvci store get s3://images/my-project stable.json`,
	}
	c.AddCommand(storeList(t), storeGet(t), storePut(t), storeRemove(t))
	return c
}

// openStore opens a store with the settings of the environment.
func openStore(place string) (*store.Store, error) { return store.Open(place, os.Environ()) }

func storeList(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:   "list STORE [PREFIX]",
		Short: "List files whose names begin with a prefix",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openStore(args[0])
			if err != nil {
				return err
			}
			list, err := s.List(cmd.Context(), strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, e := range list {
				fmt.Fprintf(&text, "%12d  %s\n", e.Size, e.Name)
			}
			return t.print(text.String(), append([]store.Entry{}, list...))
		},
	}
}

func storeGet(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:   "get STORE NAME [FILE]",
		Short: "Write a file of a store to a file or to standard output",
		Args:  between(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openStore(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				return getTo(cmd.Context(), s, args[1], t.stdout)
			}
			file, err := atomicfile.Create(args[2], 0o644)
			if err != nil {
				return fault.Wrap(fault.IO, err, "writing %s", args[2])
			}
			defer file.Abort()
			if err := getTo(cmd.Context(), s, args[1], file); err != nil {
				return err
			}
			return fault.Wrap(fault.IO, file.Commit(), "writing %s", args[2])
		},
	}
}

// getTo copies a file of a store.
func getTo(ctx context.Context, s *store.Store, name string, to io.Writer) error {
	o, err := s.Open(ctx, name)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, o)
	return fault.Wrap(fault.IO, errors.Join(err, o.Close()), "reading %s in %s", name, s)
}

// stored is the result of a file that was put.
type stored struct {
	Name     string `json:"name"`
	SHA256   string `json:"sha256"`
	URL      string `json:"url,omitempty"`
	Uploaded bool   `json:"uploaded"` // false when the store has had it
}

func storePut(t *tool) *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use:   "put STORE FILE NAME",
		Short: "Upload a file, unless the store has the same one",
		Long: "Upload a file, unless the store has the same one. Another file of that name is an error without --replace.\n\n" +
			storePlace,
		Args: between(3, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openStore(args[0])
			if err != nil {
				return err
			}
			sum, err := build.SumFile(cmd.Context(), args[1])
			if err != nil {
				return fault.Wrap(fault.Missing, err, "reading %s", args[1])
			}
			up, err := s.PutFile(cmd.Context(), args[2], store.File{Path: args[1], SHA256: sum, Replace: replace})
			if err != nil {
				return err
			}
			how := "is there already"
			if up {
				how = "uploaded"
			}
			return t.print(fmt.Sprintf("%s %s\n", args[2], how), stored{args[2], sum, s.URL(args[2]), up})
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "replace another file of that name")
	return c
}

func storeRemove(*tool) *cobra.Command {
	return &cobra.Command{
		Use:   "remove STORE NAME",
		Short: "Remove a file",
		Args:  between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openStore(args[0])
			if err != nil {
				return err
			}
			return s.Delete(cmd.Context(), args[1])
		},
	}
}

// between returns a check for a number of arguments.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fault.New(fault.BadInput, "usage: %s", cmd.UseLine())
		}
		return nil
	}
}

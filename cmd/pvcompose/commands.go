package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/adapters"
	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// tool is one run of the program.
type tool struct {
	stdout, stderr io.Writer
	list           string // the file with the list
	json           bool
}

// Run runs a command line and returns the exit code (docs/exit-codes.md).
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	t := &tool{stdout: stdout, stderr: stderr}
	root := t.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		err = fault.Wrap(fault.Cancelled, err, "stopped")
	}
	fmt.Fprintf(stderr, "pvcompose: %v\n", err)
	return int(fault.Of(err))
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "pvcompose",
		Short: "Compose firmware from an explicit list of inputs",
		Long: "Compose firmware from an explicit list of inputs: images, exports and revisions from kernel, root file\n" +
			"systems and all else that the list names. Nothing else is read: no archive, no environment, no clock.\n" +
			"It needs neither root nor any other program.",
		Example:       "  pvcompose check --inputs inputs.json\n  pvcompose build --inputs inputs.json --out out",
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var known []string
		for _, c := range root.Commands() {
			known = append(known, c.Name())
		}
		return spelling.Unknown("command", args[0], known)
	}
	root.SetOut(t.stdout)
	root.SetErr(t.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fault.Wrap(fault.BadInput, err, "reading the options") })
	root.AddCommand(t.build(), t.check(), t.plan(), t.explain(), t.schema(), t.version(), t.fromBuildroot(), t.fromYocto())
	return root
}

// command makes a command that reads the list.
func (t *tool) command(c *cobra.Command, run func(ctx context.Context, l *inputs.List) error) *cobra.Command {
	c.Args = noWords
	c.Flags().StringVarP(&t.list, "inputs", "i", "", "the list of inputs, JSON or YAML (docs/compose.md)")
	_ = c.MarkFlagFilename("inputs", "json", "yaml")
	c.Flags().BoolVar(&t.json, "json", false, "print the result as JSON")
	if c.RunE == nil {
		c.RunE = func(cmd *cobra.Command, _ []string) error { return t.with(cmd.Context(), run) }
	}
	return c
}

func noWords(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fault.New(fault.BadInput, "unexpected word %q", args[0])
	}
	return nil
}

// with reads the list.
func (t *tool) with(ctx context.Context, run func(ctx context.Context, l *inputs.List) error) error {
	if t.list == "" {
		return fault.New(fault.BadInput, "name the list of inputs: --inputs inputs.json")
	}
	l, err := inputs.Read(t.list)
	if err != nil {
		return err
	}
	return run(ctx, l)
}

func (t *tool) print(v any) error {
	enc := json.NewEncoder(t.stdout)
	enc.SetIndent("", "  ")
	return fault.Wrap(fault.IO, enc.Encode(v), "writing the result")
}

func (t *tool) build() *cobra.Command {
	var out, cache string
	var events bool
	var jobs int
	c := t.command(&cobra.Command{
		Use:   "build --inputs FILE --out DIR",
		Short: "Compose the outputs that the list wants",
		Long: "Compose the outputs that the list wants into a directory, with report.json, and with inputs.json: the\n" +
			"same list with the digest of each input, from which the same outputs can be made again.",
		Example: "  pvcompose build --inputs inputs.json --out out\n  pvcompose build --inputs inputs.json --out out --json",
	}, func(ctx context.Context, l *inputs.List) error {
		if out == "" {
			return fault.New(fault.BadInput, "name the directory for the results: --out DIR")
		}
		o := inputs.Options{Jobs: jobs, Cache: cache, Sink: &build.Plain{W: t.stderr}}
		if events {
			o.Sink = build.JSON{W: t.stderr}
		}
		report, err := l.Build(ctx, out, o)
		if t.json && report != nil {
			if err := t.print(report); err != nil {
				return err
			}
		}
		return err
	})
	c.Flags().StringVarP(&out, "out", "o", "", "directory for the results; nothing is written elsewhere but to --cache")
	_ = c.MarkFlagDirname("out")
	c.Flags().StringVar(&cache, "cache", "", "directory that keeps what steps make, so that the next build makes only what changed (default nothing is kept)")
	_ = c.MarkFlagDirname("cache")
	c.Flags().BoolVar(&events, "events", false, "tell what happens as JSON lines on standard error")
	c.Flags().IntVarP(&jobs, "jobs", "j", 0, "cores to keep busy (default all)")
	return c
}

func (t *tool) check() *cobra.Command {
	return t.command(&cobra.Command{
		Use:     "check --inputs FILE",
		Short:   "Read all inputs and print their digests",
		Long:    "Read and check the list and all inputs, and print the digest of each. Nothing is written.",
		Example: "  pvcompose check --inputs inputs.json",
	}, func(ctx context.Context, l *inputs.List) error {
		if err := l.Digest(ctx); err != nil {
			return err
		}
		if _, err := l.Compose(ctx); err != nil {
			return err
		}
		if t.json {
			return t.print(l.Entries())
		}
		for _, e := range l.Entries() {
			fmt.Fprintln(t.stdout, e)
		}
		return nil
	})
}

func (t *tool) plan() *cobra.Command {
	return t.command(&cobra.Command{
		Use:     "plan --inputs FILE",
		Short:   "Print the steps that a build takes",
		Example: "  pvcompose plan --inputs inputs.json\n  pvcompose plan --inputs inputs.json --json",
	}, func(ctx context.Context, l *inputs.List) error {
		p, err := t.resolve(ctx, l)
		if err != nil {
			return err
		}
		if t.json {
			return t.print(p)
		}
		return p.write(t.stdout)
	})
}

func (t *tool) explain() *cobra.Command {
	var name string
	c := t.command(&cobra.Command{
		Use:   "explain --inputs FILE [NAME]",
		Short: "Say what an output is made of, or what becomes of an input",
		Long: "Say of an output, by its file name, which inputs are in it and by which steps; and of an input, by its\n" +
			"place in the list, which outputs it gets into. Without a name all outputs are explained.",
		Example: "  pvcompose explain --inputs inputs.json\n  pvcompose explain --inputs inputs.json kernel.modules",
	}, nil)
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fault.New(fault.BadInput, "unexpected word %q", args[1])
		}
		name = strings.Join(args, "")
		return nil
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return t.with(cmd.Context(), func(ctx context.Context, l *inputs.List) error {
			p, err := t.resolve(ctx, l)
			if err != nil {
				return err
			}
			found, err := p.explain(name)
			if err != nil {
				return err
			}
			if t.json {
				return t.print(found)
			}
			for _, e := range found {
				fmt.Fprint(t.stdout, e.text())
			}
			return nil
		})
	}
	return c
}

// schemas are those of the files that this program reads.
var schemas = map[string][]byte{"inputs": inputs.Schema, "partial": adapters.PartialSchema, "yocto": adapters.YoctoSchema}

func (t *tool) schema() *cobra.Command {
	return &cobra.Command{
		Use: "schema [inputs|partial|yocto]", Short: "Print the JSON schema of the list, a partial list, or the list of the layer for Yocto",
		Example: "  pvcompose schema > inputs.schema.json\n  pvcompose schema partial > partial.schema.json",
		RunE: func(_ *cobra.Command, args []string) error {
			name := "inputs"
			if len(args) > 0 {
				name = args[0]
			}
			text, ok := schemas[name]
			if !ok || len(args) > 1 {
				return fault.New(fault.BadInput, "pvcompose schema %s: want inputs, partial or yocto", strings.Join(args, " "))
			}
			_, err := t.stdout.Write(text)
			return fault.Wrap(fault.IO, err, "writing the schema")
		},
	}
}

// release is set by the build: -ldflags "-X main.release=...".
var release string

func (t *tool) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Example: "  pvcompose version", Args: noWords,
		RunE: func(*cobra.Command, []string) error {
			version := cmp.Or(release, "devel")
			if info, ok := debug.ReadBuildInfo(); ok && release == "" && info.Main.Version != "" {
				version = info.Main.Version
			}
			_, err := fmt.Fprintln(t.stdout, "pvcompose", version)
			return fault.Wrap(fault.IO, err, "writing the version")
		},
	}
}

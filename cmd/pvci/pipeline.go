package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/ci"
	"github.com/pantavisor/pantavisor/ci/comment"
	"github.com/pantavisor/pantavisor/ci/doctor"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// doctorCommand says what a machine lacks.
func doctorCommand(t *tool) *cobra.Command {
	var o doctor.Options
	c := &cobra.Command{
		Use:   "doctor [TARGET...]",
		Short: "Say what this machine lacks for builds and pipelines",
		Long: `Say what this machine lacks for builds and pipelines, and what would mend it. What every build needs must be
there: the go command, git, room, memory; the exit code is 4 otherwise. Other checks only say what does not work, or works
slower, unless --need names them. With targets it says what of their packages is to be downloaded, with --template
which variables the pipeline has to set: their values are not shown.`,
		Example: `  pvci doctor
  pvci doctor x64-uefi --need kvm,network
  pvci doctor --template update-ci --json`,
		Args: between(0, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Targets, o.Environ = args, os.Environ()
			all, err := doctor.Look(cmd.Context(), o)
			if err != nil {
				return err
			}
			return errors.Join(doctor.Verdict(all), t.print(doctor.Text(all), all))
		},
	}
	fs := c.Flags()
	fs.StringVarP(&o.Dir, "directory", "C", ".", "`directory` of the project")
	fs.StringSliceVar(&o.Templates, "template", nil, "`list` of templates whose variables are looked for")
	fs.StringSliceVar(&o.Needs, "need", nil, "`list` of checks that must be fine: "+strings.Join(doctor.Names(), ", "))
	fs.BoolVar(&o.Offline, "offline", false, "ask no server")
	completes(c, "template", templateNames())
	completes(c, "need", doctor.Names())
	return c
}

// completes completes the values of a flag.
func completes(c *cobra.Command, flag string, values []string) {
	// The flag is there: it was just declared.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func templateNames() []string {
	var out []string
	for _, t := range ci.Templates() {
		out = append(out, t.Name)
	}
	return out
}

// templateCommand writes the templates of pipelines.
func templateCommand(t *tool) *cobra.Command {
	c := &cobra.Command{
		Use:   "template",
		Short: "List and write templates of pipelines",
		Example: `  pvci template list
  pvci template write gitlab bsp-ci
  pvci template write github product container-ci --check`,
	}
	c.AddCommand(templateList(t), templateWrite(t))
	return c
}

func templateList(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the templates with the variables that they read",
		Example: "  pvci template list\n  pvci template list --json",
		Args:    between(0, 0),
		RunE: func(*cobra.Command, []string) error {
			var text strings.Builder
			for _, one := range ci.Templates() {
				fmt.Fprintf(&text, "%s: %s\n", one.Name, one.What)
				for _, v := range one.Variables {
					fmt.Fprintf(&text, "  %-24s%s\n", v.Name, v.What)
				}
			}
			return t.print(text.String(), ci.Templates())
		},
	}
}

func templateWrite(t *tool) *cobra.Command {
	var dir string
	var check bool
	c := &cobra.Command{
		Use:   "write gitlab|github NAME...",
		Short: "Write templates into a project, or bring them up to date",
		Long: `Write templates into a project, or bring them up to date: .gitlab/NAME.yml for GitLab, which .gitlab-ci.yml
includes, and .github/workflows/NAME.yml for GitHub, which a workflow calls. The head of each says how. They are those of this
version of pvci: what they call is then there. They are replaced as they are, so keep changes in the file that includes them.`,
		Example: "  pvci template write gitlab bsp-ci\n  pvci template write github product --check",
		Args:    between(2, 1000),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				var systems []string
				for _, s := range ci.Systems() {
					systems = append(systems, string(s))
				}
				return systems, cobra.ShellCompDirectiveNoFileComp
			}
			return templateNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return t.writeTemplates(dir, ci.System(args[0]), args[1:], check)
		},
	}
	c.Flags().StringVarP(&dir, "directory", "C", ".", "`directory` of the project")
	c.Flags().BoolVar(&check, "check", false, "write nothing; exit code 11 if a file differs")
	return c
}

// written is a template of a project.
type written struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Changed bool   `json:"changed"` // it was written, or with --check differs
}

func (t *tool) writeTemplates(dir string, system ci.System, names []string, check bool) error {
	var done []written
	texts := map[string][]byte{}
	for _, name := range names { // before anything is written
		text, err := system.Text(name)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(system.Path(name)))
		has, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.Wrap(fault.IO, err, "reading the template of the project")
		}
		texts[path] = text
		done = append(done, written{name, path, string(has) != string(text)})
	}
	var text strings.Builder
	differ := false
	for _, w := range done {
		state := "unchanged"
		if w.Changed {
			state, differ = "written", true
		}
		if w.Changed && check {
			state = "differs"
		}
		if w.Changed && !check {
			if err := os.MkdirAll(filepath.Dir(w.Path), 0o755); err != nil { //nolint:gosec // sources of the project
				return fault.Wrap(fault.IO, err, "writing %s", w.Path)
			}
			if err := atomicfile.Write(w.Path, texts[w.Path], 0o644); err != nil {
				return fault.Wrap(fault.IO, err, "writing %s", w.Path)
			}
		}
		fmt.Fprintf(&text, "%-10s%s\n", state, w.Path)
	}
	err := t.print(text.String(), done)
	if check && differ {
		err = errors.Join(fault.New(fault.Different, "templates of the project are not those of this version of pvci: pvci template write replaces them"), err)
	}
	return err
}

// commentCommand comments on the merge request of the pipeline.
func commentCommand(t *tool) *cobra.Command {
	var must bool
	c := &cobra.Command{
		Use:   "comment NAME FILE",
		Short: "Comment on the merge request of the pipeline",
		Long: `Comment on the merge request of GitLab, or the pull request of GitHub, that the pipeline is of, with the Markdown of a file, - for
the standard input. A comment of the same name, by an earlier pipeline, is replaced. The token is in COMMENT_TOKEN for GitLab,
in GITHUB_TOKEN for GitHub. Outside of merge requests and without a token it says so, and succeeds; not with --required.`,
		Example: "  mage diff x64-uefi last.img --markdown > diff.md || true\n  pvci comment diff diff.md",
		Args:    between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := t.read(args[1])
			if err != nil {
				return err
			}
			at, err := comment.Keep(cmd.Context(), comment.Options{Name: args[0], Text: string(text), Getenv: os.Getenv})
			var none *comment.None
			if errors.As(err, &none) {
				if must {
					return fault.New(fault.Missing, "no comment %s: %w", args[0], err)
				}
				fmt.Fprintf(t.stderr, "no comment %s: %s\n", args[0], none.Why)
				return t.print("", map[string]string{"skipped": none.Why})
			}
			if err != nil {
				return err
			}
			return t.print(at+"\n", map[string]string{"url": at})
		},
	}
	c.Flags().BoolVar(&must, "required", false, "fail without a merge request or a token")
	return c
}

// read returns a file that a command is given, of at most 16 MiB.
func (t *tool) read(file string) ([]byte, error) {
	const most = 16 << 20
	if file == "-" {
		text, err := bounded.Read(t.stdin, most)
		return text, fault.Wrap(fault.IO, err, "reading the standard input")
	}
	text, err := bounded.ReadRegular(file, most)
	return text, fault.Wrap(fault.BadInput, err, "reading the file")
}

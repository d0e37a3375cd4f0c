package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/atomicfile/direct"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

func newExport(t *tool) *cobra.Command {
	var parts string
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the committed state and its objects to an archive",
		Long: `Write the committed state and its objects to an archive, compressed when the name
ends in .gz or .tgz; "-" is the standard output. Equal states give equal archives.`,
		Example: "  pvr export device.tgz\n  pvr export --parts bsp,_sigs/bsp.json bsp.tgz\n  pvr export - | ssh host pvr-import",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("export-file name is required. See --help")
			case 1:
			default:
				return errors.New("export can have at most 1 argument. See --help")
			}
			if err := wholeFile(args[0]); err != nil {
				return fail(3, err)
			}
			if form := otherForm(args[0]); form != "" {
				return fail(3, fmt.Errorf("%s: exports are not written in the form %s; name a file .tgz, .tar.gz or .tar", args[0], form))
			}
			r, err := t.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer r.Close()
			opt := archive.ExportOptions{Parts: splitParts(parts), Gzip: isGzip(args[0])}
			t.warnUnmatched(state.Fragment{Take: opt.Parts}.Unmatched(r.Committed()), "the committed state", r.Committed())
			return fail(3, t.export(cmd, r, args[0], opt))
		},
	}
	text(cmd.Flags(), &parts, "parts", "p", "", "", "`list` of parts, by commas; default all")
	_ = cmd.RegisterFlagCompletionFunc("parts", completeParts)
	return cmd
}

// wholeFile returns an error for the name of a new archive that ends in parts: get and merge
// take FILE#PARTS, and would not find such a file by its name.
func wholeFile(name string) error {
	file, parts, ok := strings.Cut(name, "#")
	if !ok {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(name)); err == nil && !strings.Contains(filepath.Base(name), "#") {
		return nil // of its directory
	}
	return fmt.Errorf("%s: the name of an archive cannot contain #; pvr export --parts '%s' '%s' writes these parts", name, parts, file)
}

func splitParts(list string) []string {
	var out []string
	for _, p := range strings.Split(list, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

func isGzip(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".tgz")
}

// otherForm returns the form of compression that a name promises and exports do not have.
func otherForm(name string) string {
	switch form := strings.TrimPrefix(strings.ToLower(filepath.Ext(name)), "."); form {
	case "zst", "xz", "bz2", "lz4", "zip":
		return form
	}
	return ""
}

// export writes the archive: a regular file appears when it is complete.
func (t *tool) export(cmd *cobra.Command, r *repo.Repo, name string, opt archive.ExportOptions) error {
	if name == "-" {
		return r.Export(cmd.Context(), t.stdout, opt)
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(r.Export(cmd.Context(), f, opt), f.Close())
	}
	atomicfile.SweepOf(name)
	f, err := atomicfile.Create(name, 0o644)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return &os.PathError{Op: "open", Path: name, Err: path.Err}
		}
		return err
	}
	defer f.Abort()
	w := direct.NewWriter(f.File)
	if err := r.Export(cmd.Context(), w, opt); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Commit()
}

func newImport(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Replace the committed state by that of an archive",
		Long: `Replace the committed state by that of an archive: a tar archive, plain or in gzip,
zstd, xz or bzip2. Nothing changes unless the whole archive is right. The working tree
stays as it is: see pvr checkout.`,
		Example: "  pvr import device.tgz && pvr checkout",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("repo-tarball name is required. See --help")
			case 1:
			default:
				return errors.New("import can have at most 1 argument. See --help")
			}
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			f, err := os.Open(args[0])
			if missing(err) && strings.Contains(args[0], "#") {
				return failf(3, "%w; import takes whole archives, pvr get '%s' parts of one", err, args[0])
			}
			if err != nil {
				return fail(3, err)
			}
			defer f.Close()
			if err := r.Import(cmd.Context(), f); err != nil {
				return fail(3, err)
			}
			fmt.Fprintf(t.stdout, "\nImported %s\n\n\nRun pvr checkout to checkout the changed files into the workspace.\n"+
				"Then run pvr add and pvr commit to merge the imported data with the current state.\n", args[0])
			return nil
		},
	}
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/sbom/container"
	"github.com/pantavisor/pantavisor/sbom/forms"
)

// sbomFlags are the options of pvr sbom.
type sbomFlags struct{ from, format, output string }

func newSBOM(t *tool) *cobra.Command {
	var f sbomFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sbom [PART]...",
		Short: "Print the bill of materials of the working tree, of parts, or of another repository",
		Long: `Print the bill of materials (SBOM) of the working tree, or of parts of it, joined of the
documents of the parts, PART/sbom.spdx.zst. A part without one is described from its
files: those of package managers in its root file systems, Go programs, packages of
Python and npm, and what belongs to none of them. Without PART, all files of the state
are in it.`,
		Example: "  pvr sbom -o sbom.json\n  pvr sbom web --format cyclonedx\n  pvr sbom --from device.tgz",
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := forms.Parse(f.format)
			if err != nil {
				return fail(1, err)
			}
			o, clean, err := t.described(cmd.Context(), f.from)
			if err != nil {
				return err
			}
			defer clean()
			return fail(3, t.sbom(cmd.Context(), o, args, form, f.output))
		},
		ValidArgsFunction: completeParts,
	}
	fs := cmd.Flags()
	text(fs, &f.from, "from", "", "", "", "`repository` to describe in place of the working tree: an export, a directory, a remote")
	text(fs, &f.format, "format", "f", "", string(forms.SPDX), "`form` of the document: "+strings.Join(forms.Names(), ", "))
	text(fs, &f.output, "output", "o", "", "-", "`file` to write; - is the standard output")
	jsonFlag(cmd, &asJSON)
	completeFlags(cmd, map[string][]string{"format": forms.Names()})
	return cmd
}

// described returns what is to be described, and what is to be called when that is done.
func (t *tool) described(ctx context.Context, from string) (container.Options, func(), error) {
	if from != "" {
		return t.fetched(ctx, from)
	}
	r, err := t.open(ctx, false)
	if err != nil {
		return container.Options{}, nil, err
	}
	w, err := r.Working(ctx)
	if err != nil {
		r.Close()
		return container.Options{}, nil, fail(3, err)
	}
	return container.Options{
		Of: filepath.Base(r.Dir()), State: w.State,
		File: func(key, _ string) (string, error) { return filepath.Join(r.Dir(), filepath.FromSlash(key)), nil },
	}, r.Close, nil
}

// fetched fetches a repository into a temporary store.
func (t *tool) fetched(ctx context.Context, from string) (o container.Options, clean func(), err error) {
	ref, src, err := t.source(from, false)
	if err != nil {
		return o, nil, fail(2, err)
	}
	dir, err := scratch.New("pvr-sbom-")
	if err != nil {
		return o, nil, fail(3, err)
	}
	defer func() {
		if err != nil {
			dir.Remove()
		}
	}()
	store, err := objects.Create(filepath.Join(dir.Path, "objects"))
	if err != nil {
		return o, nil, fail(3, err)
	}
	pulled, err := src.Pull(ctx, store, ref.Fragment.Takes)
	if err != nil {
		return o, nil, fail(3, err)
	}
	st := pulled.State.Clone()
	for _, key := range st.Keys() {
		if !ref.Fragment.Takes(key) {
			st.Delete(key)
		}
	}
	return container.Options{
		Of: ref.Base(), State: st,
		File: func(_, sum string) (string, error) { return store.Path(sum) },
	}, dir.Remove, nil
}

// sbom writes the document.
func (t *tool) sbom(ctx context.Context, o container.Options, parts []string, form forms.Form, output string) error {
	for i, name := range parts {
		parts[i] = strings.Trim(name, "/")
		if known := o.State.Parts(); !slices.Contains(known, parts[i]) {
			return spelling.Unknown("part", name, known)
		}
	}
	d, warnings, err := container.Revision(ctx, o, parts...)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(t.stderr, "WARNING:", w)
	}
	var text bytes.Buffer
	if err := forms.Write(&text, d, form); err != nil {
		return err
	}
	if output == "-" {
		_, err := t.stdout.Write(text.Bytes())
		return err
	}
	if info, err := os.Stat(output); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(output, text.Bytes(), 0o644)
	}
	return atomicfile.Write(output, text.Bytes(), 0o644)
}

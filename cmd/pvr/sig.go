package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// sigFlags are the settings of sig, before the sub-command or behind it.
type sigFlags struct {
	key, x5c, pubkey, cacerts string
	certsURL                  string
	output                    string
	command, algorithm        string
	payload                   bool
}

func newSig(t *tool) *cobra.Command {
	s := &sigFlags{}
	cmd := &cobra.Command{
		Use:              "sig",
		Short:            "Sign states, renew and verify signatures",
		TraverseChildren: true,
		Example: `  pvr sig --key key.pem --x5c chain.pem add --part nginx
  pvr sig add --part nginx --key key.pem --x5c chain.pem
  pvr sig --signcmd "openssl dgst -sha256 -sign key.pem" --x5c chain.pem add --part nginx
  pvr sig update
  pvr sig --cacerts ca.pem ls`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	fs := cmd.Flags()
	text(fs, &s.key, "key", "k", "PVR_SIG_KEY", "", "`file` of the private key")
	text(fs, &s.x5c, "x5c", "x", "PVR_X5C_PATH", "", "`file` of the signer's certificates, the signer's own first; no for none")
	text(fs, &s.pubkey, "pubkey", "p", "PVR_SIG_PUBKEY", "", "`file` of public keys to verify with")
	text(fs, &s.cacerts, "cacerts", "c", "PVR_SIG_CACERTS", "", "`file` of certificates to trust")
	text(fs, &s.certsURL, "certs-url", "", "PVS_CERTS_URL", "", "`address` or file of the tarball with the default keys")
	text(fs, &s.output, "output", "", "PVS_SIG_OUTPUT", "", "further `file` for the signature; - for the standard output")
	text(fs, &s.command, "signcmd", "", "", "", "`program` that signs in place of a key file: it reads the message from its standard input and writes the signature; needs --x5c or --pubkey")
	text(fs, &s.algorithm, "signalgo", "", "", "", "`algorithm` that the program must have: RS256, ES256, ES384 or ES512")
	flag(fs, &s.payload, "with-payload", "", "PVS_SIG_WITH_PAYLOAD", "put what is signed into the signature, too")
	cmd.AddCommand(newSigAdd(t, s), newSigUpdate(t, s), newSigList(t, s))
	for _, sub := range cmd.Commands() {
		shareFlags(sub.Flags(), fs)
	}
	return cmd
}

// shareFlags declares the flags of a command for its sub-command, too, which keeps its
// own short names.
func shareFlags(sub, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		shared := *f
		if sub.ShorthandLookup(f.Shorthand) != nil {
			shared.Shorthand = ""
		}
		sub.AddFlag(&shared)
	})
}

func newSigAdd(t *tool, s *sigFlags) *cobra.Command {
	var o sigAdd
	cmd := &cobra.Command{
		Use:     "add",
		Aliases: []string{"a"},
		Short:   "Sign a part of the committed state",
		Long: `Sign a part of the committed state, or what patterns select of it, and write the
signature to _sigs/NAME.json. Add and commit it afterwards.`,
		Example: "  pvr sig add --part nginx --key key.pem --x5c chain.pem\n  pvr sig add --raw bsp --include 'bsp/**' --include device.json --exclude bsp/src.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.raw == "" && len(o.parts) == 0:
				return failf(5, "ERROR: no part nor raw name provided; see --help")
			case o.raw != "" && len(o.parts) > 0:
				return failf(5, "ERROR: part and raw flag cannot be used at same time; see --help")
			}
			return t.sigAdd(cmd.Context(), s, &o)
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVarP(&o.parts, "part", "p", nil, "`part` to sign; may be a list, one signature each (--parts)")
	text(fs, &o.raw, "raw", "r", "", "", "`name` of a signature whose patterns are taken as they are")
	fs.StringArrayVarP(&o.include, "include", "i", nil, "`pattern` of what is signed; may be repeated (default **)")
	fs.StringArrayVarP(&o.exclude, "exclude", "e", nil, "`pattern` of what is known but not signed; may be repeated (default src.json)")
	flag(fs, &o.noConfig, "noconfig", "n", "", "leave the part's configuration out")
	_ = cmd.RegisterFlagCompletionFunc("part", completeParts)
	return cmd
}

type sigAdd struct {
	parts            []string
	raw              string
	include, exclude []string
	noConfig         bool
}

// rules returns the rules of the signatures, by name.
func (o *sigAdd) rules() (map[string]state.Rule, error) {
	names := o.parts
	if o.raw != "" {
		names = []string{o.raw}
	}
	out := map[string]state.Rule{}
	for _, n := range names {
		name, err := sign.CheckName(n)
		switch {
		case err != nil:
			return nil, fmt.Errorf("signing: %w", err)
		case o.raw != "":
			out[name] = sign.RawRule(name, o.include, o.exclude)
		default:
			out[name] = sign.PartRule(name, o.include, o.exclude, o.noConfig)
		}
	}
	return out, nil
}

func (t *tool) sigAdd(ctx context.Context, s *sigFlags, o *sigAdd) error {
	rules, err := o.rules()
	if err != nil {
		return fail(127, err)
	}
	r, err := t.open(ctx, true)
	if err != nil {
		return err
	}
	defer r.Close()
	opt, err := t.signer(ctx, s)
	if err != nil {
		return err
	}
	docs, err := r.Sign(rules, opt)
	switch {
	case errors.Is(err, pvs.ErrPattern):
		return fail(123, err)
	case errors.Is(err, sign.ErrNothing):
		return failf(127, "%w%s", err, didYouMean(o.parts, r.Committed().Parts()))
	case err != nil:
		return fail(127, err)
	}
	t.unmatched(r.Committed(), rules, o.include)
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		if err := t.output(s.output, docs[name]); err != nil {
			return fail(127, err)
		}
	}
	return nil
}

// didYouMean suggests known parts in place of unknown ones.
func didYouMean(names, known []string) string {
	for _, n := range names {
		n = strings.TrimSuffix(n, "/")
		if slices.Contains(known, n) {
			continue
		}
		if near := spelling.Nearest(n, known); len(near) > 0 {
			return fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
		}
		return "; pvr commit takes up what was added, the parts are " + strings.Join(known, ", ")
	}
	return ""
}

// unmatched warns of the patterns that the user gave and that select nothing.
func (t *tool) unmatched(st *state.State, rules map[string]state.Rule, include []string) {
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		for _, pattern := range rules[name].Include[:len(include)] {
			p, err := pvs.Signer.Compile(pattern)
			if err == nil && !slices.ContainsFunc(st.Keys(), p.Match) {
				fmt.Fprintf(t.stderr, "WARNING: %s matches no file of the committed state\n", pattern)
			}
		}
	}
}

// output writes a signature where else it is wanted.
func (t *tool) output(name string, doc []byte) error {
	switch name {
	case "":
		return nil
	case "-":
		_, err := t.stdout.Write(doc)
		return err
	}
	return os.WriteFile(name, doc, 0o644)
}

func newSigUpdate(t *tool, s *sigFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "update [NAME]...",
		Aliases: []string{"up"},
		Short:   "Sign the committed state again by the rules of its signatures",
		Example: "  pvr sig update\n  pvr sig update nginx\n  pvr sig update '_sigs/n*.json'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"**"} // those that ls verifies
			}
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			opt, err := t.signer(cmd.Context(), s)
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := t.resign(r, name, opt); err != nil {
					return err
				}
			}
			return nil
		},
		ValidArgsFunction: completeSignatures,
	}
}

func (t *tool) resign(r *repo.Repo, name string, opt sign.Options) error {
	pattern := name
	if name != "**" {
		pattern = repo.SignatureKey(name)
	}
	keys, err := r.Signatures(pattern)
	if err != nil {
		return fail(123, err)
	}
	if len(keys) == 0 && !strings.ContainsAny(name, `*?[{`) {
		return failf(125, "ERROR: %w with name %s", repo.ErrNoSignature, pattern)
	}
	for _, key := range keys {
		if err := r.Resign(key, opt); err != nil {
			fmt.Fprintf(t.stderr, "Updating pvs signature @ %s [ERROR]\n", key)
			return fail(126, err)
		}
		fmt.Fprintf(t.stderr, "Updating pvs signature @ %s [DONE]\n", key)
	}
	return nil
}

func newSigList(t *tool, s *sigFlags) *cobra.Command {
	var withSigs, asJSON bool
	var parts []string
	cmd := &cobra.Command{
		Use:   "ls [NAME]...",
		Short: "Verify signatures and tell what they cover",
		Long: `Verify signatures of the committed state and tell what they cover: which files are
protected, which are excluded (known to a signer but not signed) and which no signer
has seen. Strict devices ask that none is unseen.

With --part only the signatures of those parts are verified, and of what they have not
seen only the files of those parts are listed.`,
		Example: "  pvr sig ls\n  pvr sig --pubkey key.pub ls nginx\n  pvr sig ls --part nginx\n  pvr sig --cacerts ca.pem ls --with-sigs",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := t.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer r.Close()
			return t.sigList(cmd.Context(), r, s, &sigList{args, parts, withSigs})
		},
		ValidArgsFunction: completeSignatures,
	}
	flag(cmd.Flags(), &withSigs, "with-sigs", "s", "PVR_SIG_LS_WITH_SIGS", "show the signatures, too (--with-sig)")
	cmd.Flags().StringSliceVarP(&parts, "part", "p", nil, "`part` whose signature is verified, or the signature's path; may be a list (--parts)")
	_ = cmd.RegisterFlagCompletionFunc("part", completeParts)
	jsonFlag(cmd, &asJSON)
	return cmd
}

type sigList struct {
	names    []string
	parts    []string
	withSigs bool
}

// signatures returns the names of the signatures to verify; none means all.
func (l *sigList) signatures() []string {
	names := slices.Clone(l.names)
	for _, p := range l.parts {
		names = append(names, strings.TrimSuffix(p, "/"))
	}
	return names
}

// filter leaves out the files of other parts that no signer has seen.
func (l *sigList) filter(v *repo.Verified) {
	if len(l.parts) == 0 {
		return
	}
	listed := map[string]bool{}
	for _, name := range l.signatures() {
		listed[state.PartOf(repo.SignatureKey(name))] = true
	}
	v.NotSeen = slices.DeleteFunc(v.NotSeen, func(key string) bool { return !listed[state.PartOf(key)] })
}

func (t *tool) sigList(ctx context.Context, r *repo.Repo, s *sigFlags, l *sigList) error {
	names := l.signatures()
	signed, err := r.Signatures("**")
	if err != nil {
		return fail(13, err)
	}
	var keys pvs.Keys
	if len(names)+len(signed) > 0 { // an unsigned repository needs no keys
		if keys, err = t.trusted(ctx, s); err != nil {
			return err
		}
	}
	v, err := r.VerifySignatures(ctx, keys, names...)
	switch {
	case errors.Is(err, repo.ErrNoSignature):
		return failf(125, "ERROR: %w", err)
	case errors.Is(err, pvs.ErrNoKey):
		return failf(13, "no pubKeys available. Neither as parameters nor from x5c header nor from root pool\n%w", err)
	case err != nil:
		return fail(13, err)
	}
	l.filter(v)
	return t.print(verifiedText(r, v, l.withSigs, s.payload))
}

// verifiedText writes the report in its customary order.
func verifiedText(r *repo.Repo, v *repo.Verified, withSigs, payload bool) []byte {
	var b []byte
	for _, l := range []struct {
		name string
		keys []string
	}{{"protected", v.Protected}, {"excluded", v.Excluded}, {"notseen", v.NotSeen}} {
		if len(l.keys) > 0 {
			values := make([]canon.Value, len(l.keys))
			for i, k := range l.keys {
				values[i] = canon.Str(k)
			}
			b = appendMember(b, l.name, canon.List(values...))
		}
	}
	if withSigs && len(v.Sigs) > 0 {
		sigs := make([]canon.Value, len(v.Sigs))
		for i, doc := range v.Sigs {
			sigs[i] = shownSignature(r, doc, payload)
		}
		b = appendMember(b, "sigs", canon.List(sigs...))
	}
	if b == nil {
		return []byte("{}")
	}
	return append(b, "\n}"...)
}

func appendMember(b []byte, name string, v canon.Value) []byte {
	open := "{\n    "
	if b != nil {
		open = ",\n    "
	}
	b = append(b, open...)
	b = append(b, canon.Str(name).Encode()...)
	b = append(b, ": "...)
	style := wide
	style.Prefix = wide.Indent
	return append(b, v.Pretty(style)...)
}

// missing tells that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

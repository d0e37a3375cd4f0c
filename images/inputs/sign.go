package inputs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/revision/state"
)

// signer is the step with what signs the parts of revision 0.
type signer struct {
	// Command, Input and Parts are those of the list.
	Command string     `json:",omitempty"`
	Input   sign.Input `json:",omitempty"`
	Parts   []string   `json:",omitempty"`
	// KeySHA256 and ChainSHA256 are digests of the files, "" for none.
	KeySHA256   string `json:",omitempty"`
	ChainSHA256 string `json:",omitempty"`
	key, chain  string // the files
}

var _ images.Signer = (*signer)(nil)

// signer returns the step for the list's field signing; nil for none.
func (l *List) signer() images.Signer {
	g := l.Signing
	if g == nil {
		return nil
	}
	s := &signer{Command: g.Command, Input: sign.Input(g.Input), Parts: g.Parts}
	if s.Command != "" && s.Input == "" {
		s.Input = sign.Digest
	}
	if g.Key != nil {
		s.key, s.KeySHA256 = l.place(g.Key.Path), g.Key.SHA256
	}
	if g.Chain != nil {
		s.chain, s.ChainSHA256 = l.place(g.Chain.Path), g.Chain.SHA256
	}
	return s
}

// Name is "input/signing".
func (*signer) Name() string { return "input/signing" }

// Deps is empty.
func (*signer) Deps() []build.Step { return nil }

// Reads are the places of the files in the list.
func (s *signer) Reads() []string {
	var out []string
	if s.key != "" {
		out = append(out, "signing.key")
	}
	if s.chain != "" {
		out = append(out, "signing.chain")
	}
	return out
}

// Run makes nothing: the step stands for what signs.
func (*signer) Run(context.Context, *build.Work) error { return nil }

// Sign adds the signatures _sigs/PART.json to a state.
func (s *signer) Sign(ctx context.Context, _ *build.Work, st *state.State) error {
	said := &words{}
	o, err := s.options(ctx, said)
	if err != nil {
		return err
	}
	parts, err := s.parts(st)
	if err != nil {
		return err
	}
	for _, part := range parts {
		doc, err := sign.Sign(st, ruleOf(part), o)
		if err != nil {
			return fmt.Errorf("signing %s: %w%s", part, err, said.line())
		}
		if err := st.SetValue("_sigs/"+part+".json", doc); err != nil {
			return fmt.Errorf("signing %s: %w", part, err)
		}
	}
	return nil
}

// words is the beginning of what a command says on its standard error.
type words struct{ text []byte }

// maxWords bounds it, in bytes.
const maxWords = 1 << 10

// Write implements io.Writer.
func (w *words) Write(p []byte) (int, error) {
	w.text = append(w.text, p[:min(len(p), maxWords-len(w.text))]...)
	return len(p), nil
}

// line returns it for the end of a message.
func (w *words) line() string {
	if text := strings.Join(strings.Fields(string(w.text)), " "); text != "" {
		return "; it says: " + text
	}
	return ""
}

// ruleOf returns what the signature of a part covers. That of the BSP also covers what belongs to
// no part, as in the images of others, so that a device that wants all signed takes it.
func ruleOf(part string) state.Rule {
	if part == "bsp" {
		return sign.RawRule(part, []string{"bsp/**", "device.json", state.SpecKey}, []string{"bsp/src.json"})
	}
	return sign.PartRule(part, nil, nil, false)
}

// parts are the wanted ones: by default those with files of their own.
func (s *signer) parts(st *state.State) ([]string, error) {
	var all []string
	for _, key := range st.Keys() {
		part, _, below := strings.Cut(key, "/")
		if below && !strings.HasPrefix(part, "_") && !slices.Contains(all, part) {
			all = append(all, part)
		}
	}
	for _, p := range s.Parts {
		if !slices.Contains(all, p) {
			return nil, fault.New(fault.BadInput, "signing.parts: %q is not a part of revision 0; there are %s", p, strings.Join(all, ", "))
		}
	}
	if len(s.Parts) > 0 {
		return s.Parts, nil
	}
	return all, nil
}

// maxPEM bounds the files of key and certificates, in bytes.
const maxPEM = 4 << 20

// readPEM reads a file where it is: a private key is not copied into the work directory.
func readPEM(file, digest string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := bounded.ReadRegular(file, maxPEM)
	if err == nil && fmt.Sprintf("%x", sha256.Sum256(text)) != digest {
		err = changed(file)
	}
	return text, err
}

// options reads key and certificates.
func (s *signer) options(ctx context.Context, said io.Writer) (o sign.Options, err error) {
	ofKey := origin{"signing.key", s.key, "a PEM file with a private key"}
	ofChain := origin{"signing.chain", s.chain, "a PEM file with the certificates of the key, its own first"}
	key, err := readPEM(s.key, s.KeySHA256)
	if err != nil {
		return o, ofKey.wrong(err)
	}
	chain, err := readPEM(s.chain, s.ChainSHA256)
	if err != nil {
		return o, ofChain.wrong(err)
	}
	if chain != nil {
		if o.Chain, err = trust.ParseCertificates(chain); err != nil {
			return o, ofChain.wrong(err)
		}
	}
	if s.Command != "" {
		o.Key = &sign.Command{Context: ctx, Line: s.Command, Input: s.Input, Key: o.Chain[0].PublicKey, Stderr: said}
	} else if o.Key, err = sign.ParseKey(key); err != nil {
		return o, ofKey.wrong(err)
	}
	if o.Chain == nil {
		return o, nil
	}
	return o, fault.Wrap(fault.BadInput, sign.CheckChain(o.Key, o.Chain), "signing with signing.key and signing.chain")
}

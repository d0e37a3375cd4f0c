package main

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/revision/repo"
)

// The default keys, below the config directory.
const (
	defaultKey     = "pvs/key.default.pem"
	defaultX5c     = "pvs/x5c.default.pem"
	defaultCacerts = "pvs/cacerts.default.pem"
)

// maxPEM bounds the files of keys and certificates.
const maxPEM = 4 << 20

// signer reads the private key and its certificates.
func (t *tool) signer(ctx context.Context, s *sigFlags) (sign.Options, error) {
	opt := sign.Options{WithPayload: s.payload}
	if s.command != "" {
		return opt, fail(127, t.program(ctx, s, &opt))
	}
	if s.algorithm != "" {
		return opt, failf(127, "--signalgo goes with --signcmd; a key's algorithm is its own")
	}
	key, err := t.keyFile(ctx, s, s.key, defaultKey)
	if err != nil {
		return opt, fail(127, err)
	}
	if opt.Key, err = sign.ParseKey(key); err != nil {
		return opt, failf(127, "reading the key %s: %w", orDefault(s.key, defaultKey), err)
	}
	if s.x5c == "no" {
		return opt, nil
	}
	chain, err := t.keyFile(ctx, s, s.x5c, defaultX5c)
	if err != nil {
		return opt, fail(127, err)
	}
	if opt.Chain, err = trust.ParseCertificates(chain); err != nil {
		return opt, failf(127, "reading the certificates %s: %w", orDefault(s.x5c, defaultX5c), err)
	}
	if err := sign.CheckChain(opt.Key, opt.Chain); err != nil {
		return opt, failf(127, "signing with the key %s and the certificates %s: %w; --x5c names the key's own, --x5c no leaves them out",
			orDefault(s.key, defaultKey), orDefault(s.x5c, defaultX5c), err)
	}
	return opt, nil
}

// program sets up signing with a program. The public key is that of the first
// certificate, or without certificates that of --pubkey.
func (t *tool) program(ctx context.Context, s *sigFlags, opt *sign.Options) error {
	c := &sign.Command{Context: ctx, Line: s.command, Stderr: t.stderr}
	switch {
	case s.key != "":
		return errors.New("--key and --signcmd exclude each other")
	case s.x5c != "" && s.x5c != "no":
		text, err := readPEM(s.x5c)
		if err != nil {
			return err
		}
		if opt.Chain, err = trust.ParseCertificates(text); err != nil {
			return fmt.Errorf("reading the certificates %s: %w", s.x5c, err)
		}
		c.Key = opt.Chain[0].PublicKey
	case s.pubkey != "":
		keys, err := publicKeys(s.pubkey)
		if err != nil {
			return err
		}
		c.Key = keys[0]
	default:
		return errors.New("--signcmd needs the signer's certificates (--x5c) or its public key (--pubkey)")
	}
	opt.Key = c
	alg, err := sign.Algorithm(c)
	if err == nil && s.algorithm != "" && alg != s.algorithm {
		err = fmt.Errorf("--signalgo %s: the key's algorithm is %s", s.algorithm, alg)
	}
	return err
}

func orDefault(name, value string) string {
	if name == "" {
		return value
	}
	return name
}

// trusted reads whom to trust.
func (t *tool) trusted(ctx context.Context, s *sigFlags) (pvs.Keys, error) {
	if s.pubkey != "" {
		return publicKeys(s.pubkey)
	}
	if s.cacerts == "_system_" {
		return nil, failf(13, "Using system cert pool not supported anymore")
	}
	pem, err := t.keyFile(ctx, s, s.cacerts, defaultCacerts)
	if err != nil {
		return nil, failf(125, "ERROR: reading the certificates to trust: %w", err)
	}
	store, err := trust.ParseStore(pem)
	if err != nil {
		fmt.Fprintln(t.stderr, "WARNING: could not append cacerts to cert pool. Disabling cert pool.")
		return nobody{}, nil
	}
	return &trust.Authority{Store: store}, nil
}

// nobody trusts no signer.
type nobody = trust.PublicKeys

func publicKeys(name string) (trust.PublicKeys, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, failf(11, "ERROR: errors accessing signing key; see --help: %w", err)
	}
	if info.IsDir() {
		return nil, failf(12, "ERROR: signing key is a directory; see --help: %s", name)
	}
	text, err := readPEM(name)
	if err != nil {
		return nil, fail(11, err)
	}
	keys, err := trust.ParsePublicKeys(text)
	if err != nil {
		return nil, failf(13, "No valid PEM encoded verify key found %s: %w", name, err)
	}
	return keys, nil
}

func readPEM(name string) ([]byte, error) { return bounded.ReadFile(name, maxPEM) }

// keyFile reads a key or certificate, by default that of the config directory, which
// may be fetched.
func (t *tool) keyFile(ctx context.Context, s *sigFlags, name, fallback string) ([]byte, error) {
	if name != "" {
		return readPEM(name)
	}
	name = filepath.Join(t.configDir, fallback)
	text, err := readPEM(name)
	if !missing(err) {
		return text, err
	}
	if !t.wantDefaultKeys() {
		return nil, fmt.Errorf("%w; %s", err, keyHints[fallback])
	}
	if err := t.fetchDefaultKeys(ctx, s.certsURL); err != nil {
		return nil, err
	}
	return readPEM(name)
}

// keyHints say how what has a default is named.
var keyHints = map[string]string{
	defaultKey:     "pvr sig add --key FILE --x5c FILE names the signer's private key and its certificates, --signcmd a program that signs",
	defaultX5c:     "--x5c FILE names the key's certificates, --x5c no leaves them out",
	defaultCacerts: "--cacerts FILE names the certificates to trust, --pubkey FILE the signer's public key",
}

func (t *tool) wantDefaultKeys() bool {
	if noAnswers(t.stdin) {
		return false
	}
	fmt.Fprint(t.stderr, "Do you want to download the default developer keys that can be validated by pantavisor official developer builds? [yes/no]\n"+
		"(NOTE: this should be used only for development proposes because they are not secret)\n")
	if _, ok := t.stdin.(*bufio.Reader); !ok {
		t.stdin = bufio.NewReader(t.stdin) // further questions go on where this answer ends
	}
	answer, _ := t.stdin.(*bufio.Reader).ReadString('\n')
	return strings.ContainsAny(answer, "yY")
}

// keysName is the tarball's name in the config directory.
const keysName = "pvs.defaultkeys.tar.gz"

// maxKeys bounds the tarball.
const maxKeys = 8 << 20

// fetchDefaultKeys brings the tarball of the default keys and unpacks it.
func (t *tool) fetchDefaultKeys(ctx context.Context, from string) error {
	if from == "" {
		return errors.New("fetching the default keys: no address is known; name it with --certs-url or PVS_CERTS_URL, or pass --key, --x5c and --cacerts")
	}
	text, err := t.fetch(ctx, from)
	if err != nil {
		return fmt.Errorf("fetching the default keys from %s: %w", from, err)
	}
	if err := os.MkdirAll(t.configDir, 0o700); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(t.configDir, keysName), text, 0o600); err != nil {
		return err
	}
	if err := unpackKeys(t.configDir, text); err != nil {
		return fmt.Errorf("unpacking the default keys: %w", err)
	}
	return nil
}

func (t *tool) fetch(ctx context.Context, from string) ([]byte, error) {
	if !strings.Contains(from, "://") {
		return readPEM(from)
	}
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	return bounded.Read(resp.Body, maxKeys)
}

// unpackKeys writes the members pvs/NAME.pem and .crt; there is nothing else in the
// tarball that is wanted.
func unpackKeys(dir string, text []byte) error {
	z, err := gzip.NewReader(strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	tr := tar.NewReader(io.LimitReader(z, maxKeys))
	if err := os.MkdirAll(filepath.Join(dir, "pvs"), 0o700); err != nil {
		return err
	}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		directory, base := path.Split(strings.TrimPrefix(h.Name, "./"))
		if h.Typeflag != tar.TypeReg || directory != "pvs/" || base == "" || base[0] == '.' {
			continue
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(filepath.Join(dir, "pvs", base), content, 0o600); err != nil {
			return err
		}
	}
}

// shownSignature returns a signature as ls shows it: without the bookkeeping
// member, and with the payload when it is asked for.
func shownSignature(r *repo.Repo, doc canon.Value, payload bool) canon.Value {
	var members []canon.Member
	for _, m := range doc.Members() {
		if m.Name != "#spec" && m.Name != "payload" {
			members = append(members, m)
		}
	}
	s, err := pvs.Parse(doc)
	if err == nil && payload {
		if sel, err := pvs.Select(r.Committed(), s.Rule, pvs.Signer); err == nil {
			text := base64.RawStdEncoding.EncodeToString(pvs.Payload(r.Committed(), sel))
			members = append(members, canon.Member{Name: "payload", Value: canon.Str(text)})
		}
	}
	return canon.Obj(members...)
}

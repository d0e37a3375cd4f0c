package workspace

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/targets"
)

// checkReleases resolves targets and checks that they may be released. The error has everything
// that must be mended, of all of them.
func (w *Workspace) checkReleases(ctx context.Context, names []string) ([]*targets.Target, error) {
	var list []*targets.Target
	wrong := w.settingsOfReleases()
	for _, name := range names {
		j, err := w.open(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, text := range w.unreleasable(j.target, j.inputs) {
			wrong = append(wrong, j.target.Name+": "+text)
		}
		if j.Incomplete != nil {
			wrong = append(wrong, j.target.Name+": "+j.Incomplete.Error())
		}
		if slices.ContainsFunc(list, func(t *targets.Target) bool { return t.Name == j.target.Name }) {
			wrong = append(wrong, j.target.Name+" is named twice")
		}
		list = append(list, j.target)
		if err := j.close(); err != nil {
			return nil, err
		}
	}
	if len(wrong) > 0 {
		return nil, fault.New(fault.BadInput, "not released:\n  %s", strings.Join(wrong, "\n  "))
	}
	w.warnOfSource(ctx)
	return list, nil
}

// settingsOfReleases checks the settings that are those of all targets.
func (w *Workspace) settingsOfReleases() (wrong []string) {
	o := w.Options
	if o.Release == "" || o.Release == "devel" {
		wrong = append(wrong, "there is no version: --version=V or PV_VERSION")
	}
	if o.Debug {
		wrong = append(wrong, "PANTAVISOR_DEBUG=yes puts a shell on the console: leave it out")
	}
	if attest.WithoutPassword(o.MergeSource) != o.MergeSource {
		wrong = append(wrong, "PVR_MERGE_SRC has a user or password in its address, which the record of the build would publish: leave it out, pvr login keeps it")
	}
	return wrong
}

// warnOfSource says what nobody could build again.
func (w *Workspace) warnOfSource(ctx context.Context) {
	if l, err := w.Sources(); err == nil {
		if r, ok := commit(ctx, l.Top().Dir); ok && r.Annotations != nil {
			fmt.Fprintln(w.Stderr, "warning  the source has changes that are in no commit; the provenance of a signed release says so")
		}
	}
	if w.Options.UseSourceBSP {
		fmt.Fprintln(w.Stderr, "warning  the BSP is that of PVR_MERGE_SRC: whether that has a debug shell, and whom it trusts, was not looked at")
	}
}

// unreleasable returns why a target must not be released, and what mends it.
func (w *Workspace) unreleasable(t *targets.Target, in *images.Inputs) (wrong []string) {
	if t.Debug {
		wrong = append(wrong, "debug: true in its target.yaml puts a shell on the console: release the target without it")
	}
	if !t.Debug && !w.Options.Debug && !w.Options.UseSourceBSP {
		wrong = append(wrong, shells(t, in.Config)...)
	}
	if !w.Options.UseSourceBSP {
		for _, s := range in.Config.Trust {
			wrong = append(wrong, throwaway(s.Name, s.Path)...)
		}
	}
	return wrong
}

// onDevice returns the configuration of the runtime on a device, and the name of its policy's file.
func onDevice(t *targets.Target, c images.Config) (device *config.Config, policy string, err error) {
	device = config.New()
	for _, d := range c.Derived {
		device.Set(config.PVConf, d.Key, d.Value)
	}
	err = device.LoadFile(config.PVConf, c.Runtime.Path)
	if t.Kernel != nil {
		device.LoadArgs(t.Kernel.Arguments)
		device.LoadCmdline(strings.Join(t.Kernel.Arguments, " "))
	}
	if name := device.Policy(); name != "" {
		files := policyFiles(c)
		for _, known := range slices.Sorted(maps.Keys(files)) {
			if strings.TrimSuffix(path.Base(known), ".config") == name {
				policy = known
				err = errors.Join(err, device.LoadFile(config.Policy, files[known]))
			}
		}
	}
	return device, policy, err
}

// shells returns the settings with which the device would open a shell to whoever is at it.
func shells(t *targets.Target, c images.Config) (wrong []string) {
	device, policy, err := onDevice(t, c)
	if err != nil { // the build says so too
		return []string{err.Error()}
	}
	for _, k := range []config.Key{config.DebugShell, config.DebugShellAutologin, config.DebugSSH} {
		if !device.Bool(k) {
			continue
		}
		at := c.Runtime.Name
		switch device.From(k) {
		case config.Policy:
			at = policy
		case config.PVCmdline, config.Args:
			at = "kernel.arguments of the target"
		}
		wrong = append(wrong, fmt.Sprintf("%s is on, in %s: remove it there, or set it to 0", k.Name(), at))
	}
	return wrong
}

// published are the names in certificates whose private keys everybody has: those of the default
// keys that pvr offers to download, and those of keys that say it themselves.
var published = regexp.MustCompile(`(?i)^(pantavisor dev ca|pv-developer-\d+)$|do not (trust|ship)|snake ?oil`)

// weakRSA is the size below which a key can be found by others, in bits.
const weakRSA = 2048

// throwaway returns what is wrong with the certificates that an image trusts.
func throwaway(name, file string) (wrong []string) {
	text, err := bounded.ReadRegular(file, maxTrust)
	if err != nil {
		return []string{err.Error()}
	}
	if filepath.Ext(name) != ".crt" {
		return nil
	}
	certificates, err := trust.ParseCertificates(text)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", file, err)}
	}
	for _, c := range certificates {
		if reason := thrownAway(c); reason != "" {
			wrong = append(wrong, fmt.Sprintf("the image trusts %q of %s, %s: make keys of your own, and name their certificates with PV_PVS_CERT_PEM or in ca/pvs", c.Subject.CommonName, file, reason))
		}
	}
	return wrong
}

// maxTrust bounds a file of certificates, in bytes.
const maxTrust = 8 << 20

func thrownAway(c *x509.Certificate) string {
	if published.MatchString(c.Subject.CommonName) || published.MatchString(c.Issuer.CommonName) {
		return "whose private key is published"
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < weakRSA {
		return fmt.Sprintf("an RSA key of %d bits", key.N.BitLen())
	}
	return ""
}

package resolve

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// config finds the configuration files: config/PLATFORM, vendors/PLATFORM and the trusted
// certificates and keys.
func (p *providers) config() (images.Config, error) {
	platform := p.target.Platform
	if platform == "" {
		platform = p.target.Name
	}
	trust, err := p.trust()
	return images.Config{
		Runtime:  p.source("config", platform, "pantavisor.config"),
		Derived:  derived(p.target, p.Debug),
		Defaults: p.source("config/defaults"),
		Hub:      p.source("config", platform, "pantahub.config"),
		Image:    p.optional("config", platform, "image.config"),
		Skel:     p.optional("vendors", platform, "skel"),
		Stepskel: p.optional("vendors", platform, "stepskel"),
		Trust:    trust,
	}, err
}

// source returns a file or directory of the source tree.
func (p *providers) source(parts ...string) build.Source {
	name := path.Join(parts...)
	return build.Source{Name: name, Path: filepath.Join(p.Root, filepath.FromSlash(name))}
}

// optional is source for a file that may be absent; it then returns nil.
func (p *providers) optional(parts ...string) *build.Source {
	s := p.source(parts...)
	if !exists(s.Path) {
		return nil
	}
	return &s
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// derived returns the keys that follow from the target: the file may omit them but not
// contradict them.
func derived(t *targets.Target, debug bool) []images.Setting {
	out := []images.Setting{{Key: "PV_DEBUG_SHELL", Value: flag(debug)}}
	if !debug {
		out = append(out, images.Setting{Key: "PV_DEBUG_SSH", Value: "0"})
	}
	if t.Bootloader != nil {
		out = append(out, images.Setting{Key: "PV_BOOTLOADER_TYPE", Value: t.Bootloader.Runtime()})
	}
	if p := t.Partition("root"); p != nil {
		out = append(out,
			images.Setting{Key: "PV_STORAGE_DEVICE", Value: "LABEL=" + p.Name},
			images.Setting{Key: "PV_STORAGE_FSTYPE", Value: p.Format},
			images.Setting{Key: "PV_STORAGE_MNTPOINT", Value: "/storage"})
	}
	return out
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// trust returns the certificates and keys for signatures: those of the options, or else
// those of the tree.
func (p *providers) trust() ([]build.Source, error) {
	given := map[string]string{"ca-certificates.crt": p.TrustCertificates, "pub.pem": p.TrustKey}
	var out []build.Source
	for _, name := range []string{"ca-certificates.crt", "ca-oem-certificates.crt", "pub.pem"} {
		file := given[name]
		if file == "" {
			if file = filepath.Join(p.Root, "ca/pvs", name); !exists(file) {
				continue
			}
		}
		if err := checkPEM(file); err != nil {
			return nil, err
		}
		out = append(out, build.Source{Name: name, Path: file})
	}
	return out, nil
}

func checkPEM(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fault.New(fault.Missing, "reading trusted certificates and keys (PV_PVS_CERT_PEM, PV_PVS_PUB_PEM): %w", err)
	}
	if strings.Contains(string(text), "PRIVATE KEY-----") {
		return fault.New(fault.BadInput, "reading %s: it holds a private key, which must not go into an image", file)
	}
	if !strings.Contains(string(text), "-----BEGIN ") {
		return fault.New(fault.BadInput, "reading %s: it holds no PEM block", file)
	}
	return nil
}

package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// profiles loads AppArmor profiles into the kernel (PV_SYSTEM_APPARMOR_PROFILES): files of
// <etc>/apparmor.d, compiled, or as text when the image has apparmor_parser.
type profiles struct {
	dir     string // <etc>/apparmor.d
	replace string // the kernel's file for compiled profiles
	parser  string // program that loads profiles in text form
	log     logs.Logger
}

const (
	maxProfile  = 16 << 20 // bytes of a file
	profileTime = time.Minute
)

// compiledProfile is what a file begins with that apparmor_parser has compiled: the field
// "version" of the kernel's interface (unpack_array in security/apparmor/policy_unpack.c).
var compiledProfile = []byte("\x04\x08\x00version\x00\x02")

// loadProfiles loads the profiles that the configuration names. The device goes on without
// one that cannot be loaded; containers that it should confine do not start then.
func (s *session) loadProfiles(ctx context.Context) {
	names := s.cfg.List(config.AppArmorProfiles)
	if len(names) == 0 {
		return
	}
	log := s.log.Named("apparmor")
	if s.opt.Hosted {
		log.Warnf("PV_SYSTEM_APPARMOR_PROFILES: the kernel belongs to the host; nothing is loaded")
		return
	}
	p := &profiles{
		dir:     filepath.Join(s.cfg.String(config.SystemEtcDir), "apparmor.d"),
		replace: "/sys/kernel/security/apparmor/.replace", parser: "apparmor_parser", log: log,
	}
	p.loadAll(ctx, names)
}

// loadAll loads the profiles of these names, "all" every file of the directory.
func (p *profiles) loadAll(ctx context.Context, names []string) {
	if len(names) == 1 && names[0] == "all" {
		files, err := os.ReadDir(p.dir)
		if err != nil {
			p.log.Warnf("looking for profiles: %v", err)
		}
		names = nil
		for _, f := range files {
			if f.Type().IsRegular() && !strings.HasPrefix(f.Name(), ".") {
				names = append(names, f.Name())
			}
		}
	}
	for _, name := range names {
		if err := p.load(ctx, name); err != nil {
			p.log.Warnf("loading the profile %q: %v", name, err)
			continue
		}
		p.log.Infof("profile %s is loaded", name)
	}
}

func (p *profiles) load(ctx context.Context, name string) error {
	if name != filepath.Base(name) || !filepath.IsLocal(name) {
		return fmt.Errorf("PV_SYSTEM_APPARMOR_PROFILES wants names of files in %s", p.dir)
	}
	file := filepath.Join(p.dir, name)
	text, err := bounded.ReadFile(file, maxProfile)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(text, compiledProfile) {
		return p.parse(ctx, file)
	}
	f, err := os.OpenFile(p.replace, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: the kernel has no AppArmor, or PV_SYSTEM_MOUNT_SECURITYFS is 0", err)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text) // the kernel wants it in one piece
	return errors.Join(err, f.Close())
}

func (p *profiles) parse(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, profileTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, p.parser, "-r", file).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w: compile the profile when the image is made, with apparmor_parser -Q -K -o FILE", err)
	}
	if err != nil {
		return fmt.Errorf("%s -r %s: %w: %.500s", p.parser, file, err, bytes.TrimSpace(out))
	}
	return nil
}

package container

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/octal"
)

// Remount changes the options of the container's mounts whose paths match (manual:
// Containers, remount policies).
type Remount struct {
	// Pattern is an extended regular expression for whole paths.
	Pattern string
	// Options are words of mount(8), separated by commas, such as "ro,nosuid". They
	// change those that a mount has.
	Options string
}

// check returns an error for a rule that is not valid.
func (r Remount) check() error {
	if _, err := compilePattern(r.Pattern); err != nil {
		return fmt.Errorf("pattern %q: %w", clip(r.Pattern), err)
	}
	_, err := r.apply(0)
	return err
}

// apply returns a mount's options with those of the rule.
func (r Remount) apply(flags uintptr) (uintptr, error) {
	for _, o := range strings.Split(r.Options, ",") {
		f, ok := find(mountFlags, strings.TrimSpace(o))
		if !ok || f.set&(unix.MS_BIND|unix.MS_REC|unix.MS_REMOUNT) != 0 {
			return 0, fmt.Errorf("%q is not a mount option that can be changed", clip(o))
		}
		flags = flags&^f.clear | f.set
	}
	return flags, nil
}

// remountAll applies the rules, in order, to all mounts that the container has before
// the root changes.
func (s *stage) remountAll() error {
	if len(s.plan.Remounts) == 0 {
		return nil
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, r := range s.plan.Remounts {
		re, err := compilePattern(r.Pattern)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 6 {
				continue
			}
			p, ok := strings.CutPrefix(octal.Unescape(f[4]), s.dir)
			if !ok || p != "" && p[0] != '/' {
				continue
			}
			if p == "" {
				p = "/"
			}
			if !re.match(p) {
				continue
			}
			if err := s.changeMount(p, r); err != nil {
				return fmt.Errorf("%s to %s: %w", p, r.Options, err)
			}
		}
	}
	return nil
}

// changeMount changes the options of one mount. A mount that another one covers cannot
// be reached and stays as it is.
func (s *stage) changeMount(p string, r Remount) error {
	fd, err := s.inside(p, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	const kept = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME
	flags := uintptr(st.Flags) & kept
	if st.Flags&relatime != 0 {
		flags |= unix.MS_RELATIME
	}
	if flags, err = r.apply(flags); err != nil {
		return err
	}
	return unix.Mount("", fdPath(fd), "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

// relatime is ST_RELATIME of statfs(2), the only flag that differs from its MS_ flag.
const relatime = 0x1000

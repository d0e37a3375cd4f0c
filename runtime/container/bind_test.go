package container

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inMounts runs a test on a thread with mounts of its own. The thread ends with it.
func inMounts(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			t.Errorf("making a mount namespace: %v", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Errorf("separating the mounts: %v", err)
			return
		}
		test(t)
	}()
	<-done
}

// bound binds a directory of a file system without devices on another one of it, with
// the options, and returns those of the new mount.
func bound(t *testing.T, root string, flags uintptr) int64 {
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
		t.Errorf("mounting a file system: %v", err)
		return 0
	}
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	for _, d := range []string{"from", "to"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "from/file"), nil, 0o600); err != nil {
		t.Error(err)
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer unix.Close(fd)
	s := &stage{root: fd, plan: &plan{}}
	if err := s.mountEntry(Mount{Source: filepath.Join(root, "from"), Target: "/to", Flags: unix.MS_BIND | flags}); err != nil {
		t.Error(err)
	}
	if !exists(filepath.Join(root, "to/file")) {
		t.Error("the mount shows another directory")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(root, "to"), &st); err != nil {
		t.Error(err)
	}
	return int64(st.Flags) //nolint:unconvert // width differs between architectures
}

// TestBindOptions holds a bind mount with options against those that it has then, on a
// kernel as it is and on one without mount_setattr(2).
func TestBindOptions(t *testing.T) {
	const noatime = unix.MS_NOATIME // ST_NOATIME of statfs(2) is the same bit
	for name, c := range map[string]struct {
		flags     uintptr
		has, lost int64
	}{
		"none":        {0, unix.MS_NODEV | noatime, unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NOEXEC},
		"read-only":   {unix.MS_RDONLY, unix.MS_RDONLY | unix.MS_NODEV | noatime, unix.MS_NOSUID | unix.MS_NOEXEC},
		"several":     {unix.MS_NOSUID | unix.MS_NOEXEC, unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, unix.MS_RDONLY},
		"access time": {unix.MS_RELATIME, relatime | unix.MS_NODEV, noatime},
		"strict time": {unix.MS_STRICTATIME, unix.MS_NODEV, noatime | relatime},
	} {
		for kernel, call := range map[string]func(int, string, uint, *unix.MountAttr) error{
			"new": unix.MountSetattr,
			"old": func(int, string, uint, *unix.MountAttr) error { return unix.ENOSYS },
		} {
			t.Run(name+" "+kernel, func(t *testing.T) {
				mountSetattr = call
				defer func() { mountSetattr = unix.MountSetattr }()
				root := t.TempDir()
				inMounts(t, func(t *testing.T) {
					if got := bound(t, root, c.flags); got&c.has != c.has || got&c.lost != 0 {
						t.Errorf("options %#x; want %#x and none of %#x", got, c.has, c.lost)
					}
				})
			})
		}
	}
}

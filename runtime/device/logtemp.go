package device

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/config"
)

// mountLogs puts the directory of the logs into memory when PV_STORAGE_LOGTEMPSIZE says so;
// what the storage has of earlier boots is hidden. unmount is to be called when the logs are
// closed.
func (s *session) mountLogs() (unmount func()) {
	size := s.cfg.String(config.StorageLogtempSize)
	if size == "" {
		return func() {}
	}
	dir := s.paths.logs
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size="+size)
	}
	if err != nil {
		s.log.Errorf("mounting a tmpfs of %s on %s (PV_STORAGE_LOGTEMPSIZE): %v; the logs go to the storage", size, dir, err)
		return func() {}
	}
	return func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }
}

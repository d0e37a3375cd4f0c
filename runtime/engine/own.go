package engine

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/volume"
)

// ownFolder is where the runtime's own volumes are, beside those of containers.
const ownFolder = "bsp"

// Names of the runtime's own volumes that take the place of folders on the storage
// (manual: device.json, volumes).
const (
	volumeUsrMeta = "pv--usrmeta"
	volumeDevMeta = "pv--devmeta"
)

// mounter mounts the volumes of a state; l is nil without one.
func (s *session) mounter(l *loaded) *volume.Mounter {
	m := &volume.Mounter{
		Trail: s.paths.trail, Disks: s.paths.disks, Rev: s.opt.Revision, VolDir: s.paths.volumes, ConfDir: s.paths.configs,
		LoopBase: s.cfg.Int(config.LoopIndexBase), Handlers: s.cfg.Bool(config.SecurebootHandlers) && os.Getenv("pv_verityoff") == "",
	}
	if l != nil {
		m.Disk = l.sys.Disk
	}
	return m
}

// mountOwn mounts the runtime's own volumes below <voldir>/bsp and keeps metadata in
// those that are for it. What was to be on a disk that cannot be mounted is kept in
// memory, and so are copies of what is on a disk: they must not get to the storage in
// clear. The result unmounts.
func (s *session) mountOwn(l *loaded) (unmount func()) {
	if l == nil {
		return func() {}
	}
	var sets []*volume.Set
	m := s.mounter(l)
	release := func() {}
	memory := sync.OnceValue(func() (dir string) { dir, release = s.memory(); return dir })
	for _, v := range l.sys.Volumes {
		set, err := m.Mount(&manifest.Container{Name: ownFolder, Storage: []manifest.Volume{v}})
		place := s.paths.ownVolume(v.Name)
		if err != nil || v.Disk != "" {
			s.paths.copies = memory()
		}
		if err == nil {
			sets = append(sets, set)
		} else {
			s.log.Errorf("the runtime's volume %s: %v; what belongs there is kept in memory", v.Name, err)
			if place = memory(); place != "" {
				place = filepath.Join(place, v.Name)
			}
		}
		switch v.Name {
		case volumeUsrMeta:
			s.paths.usrMeta = place
		case volumeDevMeta:
			s.paths.devMeta = place
		}
	}
	return func() {
		for _, set := range sets {
			if err := set.Unmount(); err != nil {
				s.log.Errorf("the runtime's volumes: %v", err)
			}
		}
		release()
	}
}

// memory returns a folder whose files never get to a disk, "" when there is none, and
// what takes it away. A device's run folder is such a one; App Engine's lies on the
// machine's disk, and a tmpfs is mounted in it.
func (s *session) memory() (dir string, release func()) {
	if inMemory(s.paths.run) {
		return s.paths.run, func() {}
	}
	dir = s.paths.at("volatile")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755")
	}
	if err != nil {
		s.log.Errorf("making a folder in memory: %v; containers do not see the metadata that belongs there", err)
		return "", func() {}
	}
	return dir, func() {
		if err := errors.Join(unix.Unmount(dir, 0), os.Remove(dir)); err != nil {
			s.log.Errorf("removing the folder in memory %s: %v", dir, err)
		}
	}
}

// inMemory tells whether the files of a folder are in memory only.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	kind := uint32(st.Type) // signed and 32 bits wide on some architectures
	return kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC
}

package device

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/volume"
)

// ownDir is the directory of the runtime's own volumes, beside those of containers.
const ownDir = "bsp"

// Names of the runtime's own volumes that replace directories on the storage (manual:
// device.json, volumes).
const (
	volumeUsrMeta = "pv--usrmeta"
	volumeDevMeta = "pv--devmeta"
	volumeHub     = "pv--phconfig" // holds pantahub.config, with PV_STORAGE_PHCONFIG_VOL
)

// mounter returns the mounter of the volumes of a revision.
func (s *session) mounter(r *revision) *volume.Mounter {
	m := &volume.Mounter{
		Trail: r.trail, Disks: s.paths.disks, Rev: r.name, VolDir: s.paths.volumes, ConfDir: s.paths.configs,
		LoopBase: s.cfg.Int(config.LoopIndexBase), Handlers: s.cfg.Bool(config.SecurebootHandlers) && os.Getenv("pv_verityoff") == "",
	}
	if r.loaded != nil {
		m.Disk = r.loaded.sys.Disk
	}
	return m
}

// ownVolumes are the volumes of the runtime itself.
type ownVolumes struct {
	mounter *volume.Mounter
	paths   *paths // changed to where the metadata is kept
	log     logs.Logger
}

// mount mounts the volumes below <voldir>/bsp and keeps metadata in those that are meant
// for it. When such a volume cannot be mounted, its content is kept in memory; so are
// copies of its content, which must not reach the storage unencrypted. unmount undoes it.
func (o *ownVolumes) mount(l *loaded) (unmount func()) {
	if l == nil {
		return func() {}
	}
	var sets []*volume.Set
	release := func() {}
	memory := sync.OnceValue(func() (dir string) { dir, release = o.memory(); return dir })
	for _, v := range l.sys.Volumes {
		set, err := o.mounter.Mount(&manifest.Container{Name: ownDir, Storage: []manifest.Volume{v}})
		place := o.paths.ownVolume(v.Name)
		if err != nil || v.Disk != "" {
			o.paths.copies = memory()
		}
		if err == nil {
			sets = append(sets, set)
		} else {
			o.log.Errorf("the runtime's volume %s: %v; what belongs there is kept in memory", v.Name, err)
			if place = memory(); place != "" {
				place = filepath.Join(place, v.Name)
			}
		}
		switch v.Name {
		case volumeUsrMeta:
			o.paths.usrMeta, o.paths.usrMetaSealed = place, v.Disk != ""
		case volumeDevMeta:
			o.paths.devMeta = place
		case volumeHub:
			o.paths.hub = place
		}
	}
	return func() {
		for _, set := range sets {
			if err := set.Unmount(); err != nil {
				o.log.Errorf("the runtime's volumes: %v", err)
			}
		}
		if err := o.mounter.Close(); err != nil {
			o.log.Errorf("the runtime's volumes: %v", err)
		}
		release()
	}
}

// memory returns a directory whose files never reach a disk, "" when there is none;
// release removes it. On a device that is the run directory. In App Engine the run
// directory is on a disk, and a tmpfs is mounted in it.
func (o *ownVolumes) memory() (dir string, release func()) {
	if inMemory(o.paths.run) {
		return o.paths.run, func() {}
	}
	dir = o.paths.at("volatile")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755")
	}
	if err != nil {
		o.log.Errorf("making a directory in memory: %v; containers do not see the metadata that belongs there", err)
		return "", func() {}
	}
	return dir, func() {
		if err := errors.Join(unix.Unmount(dir, 0), os.Remove(dir)); err != nil {
			o.log.Errorf("removing the directory in memory %s: %v", dir, err)
		}
	}
}

// inMemory reports whether the files of a directory are in memory only.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	kind := uint32(st.Type) // signed and 32 bits wide on some architectures
	return kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC
}

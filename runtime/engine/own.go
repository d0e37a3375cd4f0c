package engine

import (
	"os"

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
// memory: it must not get to the storage in clear. The result unmounts.
func (s *session) mountOwn(l *loaded) (unmount func()) {
	if l == nil {
		return func() {}
	}
	var sets []*volume.Set
	m := s.mounter(l)
	for _, v := range l.sys.Volumes {
		set, err := m.Mount(&manifest.Container{Name: ownFolder, Storage: []manifest.Volume{v}})
		place := s.paths.ownVolume(v.Name)
		if err != nil {
			s.log.Errorf("the runtime's volume %s: %v; what belongs there is kept in memory", v.Name, err)
			place = s.paths.at("volatile/" + v.Name)
		} else {
			sets = append(sets, set)
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
	}
}

package device

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
)

// resolvConf is the file that exports mount and that network containers write.
const resolvConf = "/etc/resolv.conf"

// paths are the directories that the runtime works with, from the configuration.
type paths struct {
	storage, objects, disks            string
	run, logs, volumes, stage          string
	exports, configs, usrMeta, devMeta string
	usrMetaSealed                      bool   // user metadata is on an encrypted disk
	copies                             string // of metadata, for single containers; "": none
	resolvConf                         string // mounted as /etc/resolv.conf
	hub                                string // the volume with pantahub.config, "" without one
}

func newPaths(c *config.Config) paths {
	or := func(k config.Key, def string) string { return cmp.Or(c.String(k), def) }
	p := paths{
		storage: or(config.StorageMntPoint, "/storage"), run: or(config.SystemRunDir, "/pv"),
		volumes: or(config.DiskVolDir, "/volumes"), exports: or(config.DiskExportsDir, "/exports"),
		configs: or(config.SystemConfDir, "/configs"),
		usrMeta: c.String(config.CacheUsrmetaDir), devMeta: c.String(config.CacheDevmetaDir),
		logs: or(config.LogDir, "/storage/logs"),
	}
	p.objects = filepath.Join(p.storage, "objects")
	p.disks = filepath.Join(p.storage, "disks")
	p.stage = filepath.Join(p.run, "rootfs")
	p.copies, p.resolvConf = p.run, resolvConf
	return p
}

// makeResolvConf makes /etc/resolv.conf when it is missing. On another system (hosted)
// it makes a file of the runtime's own instead.
func (p *paths) makeResolvConf(hosted bool) error {
	if hosted {
		if _, err := os.Stat(p.resolvConf); err == nil {
			return nil
		}
		p.resolvConf = p.at("resolv.conf")
	}
	if err := touch(p.resolvConf, 0o644); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// directories returns the fixed names in exports and their paths.
func (p paths) directories() []container.Directory {
	return []container.Directory{{Name: "/volumes", Path: p.volumes}, {Name: "/exports", Path: p.exports},
		{Name: "/configs", Path: p.configs}, {Name: "/storage", Path: p.storage}, {Name: resolvConf, Path: p.resolvConf}}
}

// written returns the directories in which containers may have written.
func (p paths) written() []container.Volumes {
	return []container.Volumes{{Dir: p.volumes, Depth: 2}, {Dir: p.exports, Depth: 1}, {Dir: p.configs, Depth: 1}}
}

// beside returns the directories of another revision that are outside its trail.
func (p paths) beside(rev string) []string {
	return []string{filepath.Join(p.logs, rev), filepath.Join(p.disks, "rev", rev)}
}

// make makes the directories that must exist, and the files that exports mount.
func (p paths) make() error {
	var errs []error
	for _, d := range []string{p.run, p.volumes, p.exports, p.configs, p.stage, p.disks,
		p.at("logs"), p.at("user-meta"), p.at("device-meta"), p.at("phconfig")} {
		errs = append(errs, os.MkdirAll(d, 0o755))
	}
	for _, f := range []string{p.at("challenge"), p.at("device-id"), p.at("pantahub-host")} {
		errs = append(errs, touch(f, 0o444))
	}
	return errors.Join(errs...)
}

// ownVolume returns the mount point of a volume of the runtime itself.
func (p paths) ownVolume(name string) string { return filepath.Join(p.volumes, ownDir, name) }

func (p paths) at(name string) string { return filepath.Join(p.run, name) }

// touch makes an empty file unless the file exists.
func touch(path string, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

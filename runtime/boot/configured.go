package boot

import (
	"errors"

	"github.com/pantavisor/pantavisor/runtime/config"
)

// Configured returns the store of the boot loader that the configuration names, as [Open]
// does, with the names of its partitions.
func Configured(c *config.Config, dir string) (Store, error) {
	switch loader := c.Enum(config.BootloaderType); loader {
	case ubootLoader, pvkLoader:
		return withFlash(c, dir, openMTD)
	case ubootABLoader:
		return newUBootAB(dir, Flash{
			A: c.String(config.BootloaderAName), B: c.String(config.BootloaderBName),
			Env: c.String(config.BootloaderEnvName), Backup: c.String(config.BootloaderEnvBakName),
			Offset: int64(c.Int(config.BootloaderEnvOffset)), Size: int64(c.Int(config.BootloaderEnvSize)),
		}), nil
	default:
		return Open(loader, dir)
	}
}

// withFlash returns the store of a U-Boot that may keep values or its mark in flash memory.
func withFlash(c *config.Config, dir string, open func(name string) (flashMemory, error)) (Store, error) {
	name := c.String(config.BootloaderMTDEnv)
	if name == "" {
		name = defaultState
	}
	if c.Bool(config.BootloaderMTDOnly) {
		return &flashEnv{name, open}, nil
	}
	s := newUBoot(dir)
	f, err := open(name)
	if errors.Is(err, errNoFlash) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	return &marked{*s, name, open}, f.Close()
}

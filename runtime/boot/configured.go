package boot

import "github.com/pantavisor/pantavisor/runtime/config"

// Configured returns the store of the boot loader that the configuration names, as [Open]
// does, with the names of its partitions.
func Configured(c *config.Config, dir string) (Store, error) {
	loader := c.Enum(config.BootloaderType)
	if loader != ubootABLoader {
		return Open(loader, dir)
	}
	return newUBootAB(dir, Flash{
		A: c.String(config.BootloaderAName), B: c.String(config.BootloaderBName),
		Env: c.String(config.BootloaderEnvName), Backup: c.String(config.BootloaderEnvBakName),
		Offset: int64(c.Int(config.BootloaderEnvOffset)), Size: int64(c.Int(config.BootloaderEnvSize)),
	}), nil
}

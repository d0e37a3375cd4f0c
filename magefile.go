//go:build mage

//mage:multiline

// Pantavisor: firmware images, and the software that runs on the device.
package main

import (
	//mage:import
	"github.com/pantavisor/pantavisor/mage"
)

// Aliases are further names of commands.
var Aliases = map[string]any{"test:arch": mage.Arch, "test:vm": mage.Boards}

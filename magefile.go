//go:build mage

//mage:multiline

// Pantavisor: firmware images, and the software that runs on the device.
package main

import (
	//mage:import
	_ "github.com/pantavisor/pantavisor/mage"
)

//go:build !linux

package flash

import (
	"os"
	"runtime"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func openDevice(string, *Disk) (medium, error) {
	return nil, fault.New(fault.Unsupported, "disks cannot be written on %s: write the image with another program", runtime.GOOS)
}

func dropCache(*os.File) error { return nil }

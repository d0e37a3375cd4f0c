// Command pv-installer is process 1 of an installation medium; see package
// runtime/installer.
package main

import (
	"context"

	"github.com/pantavisor/pantavisor/runtime/installer"
)

func main() { installer.Main(context.Background()) }

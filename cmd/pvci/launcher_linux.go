package main

import (
	"bytes"

	"github.com/pantavisor/pantavisor/runtime/container"
)

// checkConfig reads a container's configuration with the launcher's own reader.
func checkConfig(config []byte) (warnings []string, err error) {
	_, notes, err := container.Parse(bytes.NewReader(config))
	for _, n := range notes {
		warnings = append(warnings, n.String())
	}
	return warnings, err
}

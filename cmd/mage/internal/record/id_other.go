//go:build !linux

package record

import "errors"

// ID returns an error: mage works on Linux only.
func ID(string) (string, error) { return "", errors.ErrUnsupported }

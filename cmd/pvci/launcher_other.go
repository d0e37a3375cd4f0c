//go:build !linux

package main

// checkConfig says that it does not check: the launcher's reader needs Linux.
func checkConfig([]byte) (warnings []string, err error) {
	return []string{"not checked as a device reads it: that works on Linux only"}, nil
}

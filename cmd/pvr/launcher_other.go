//go:build !linux

package main

// checkConfig is not available: the launcher is a program of Linux.
var checkConfig func(config []byte) (warnings []string, err error)

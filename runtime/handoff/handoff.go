// Package handoff is what process 1 and the engine agree on: the environment
// and descriptors that the engine is started with, its exit codes, and the
// records of the early log.
//
// The engine is started as "pantavisor engine" from a sealed copy of process 1's
// program (package program). It inherits the kernel's
// environment for init plus the variables below. Its exit code says what process
// 1 does next; a signal or any other code is an unexpected end.
package handoff

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Environment of the engine.
const (
	// EnvEarlyLog is the number of the descriptor from which the engine reads
	// process 1's log: JSON lines of [Record] until end of file.
	EnvEarlyLog = "PV_EARLY_LOG_FD"
	// EnvNotify is the number of the descriptor to which the engine writes
	// the words below, each with a newline; see [Notify].
	EnvNotify = "PV_NOTIFY_FD"
	// EnvBootCPU is the busy CPU time of all processors, in clock ticks of
	// /proc/stat, at process 1's first instruction.
	EnvBootCPU = "PV_BOOT_CPU"
	// EnvRevision is the running revision.
	EnvRevision = "pv_rev"
)

// Exit codes of the engine.
const (
	ExitReboot   = 0 // everything is stopped, reboot
	ExitPowerOff = 3 // everything is stopped, power off
)

// Words that the engine tells process 1.
const (
	Ready       = "ready"    // the revision runs: a startup watchdog is let go
	Rebooting   = "reboot"   // stopping for a reboot has begun: a shutdown watchdog starts
	PoweringOff = "poweroff" // stopping for a power-off has begun
)

// Record is one message of process 1 in the early log.
type Record struct {
	// T is seconds since boot (CLOCK_BOOTTIME); the wall clock may not be set yet.
	T float64 `json:"t"`
	// Level is a number as in package logs, 0 FATAL to 6 ALL.
	Level int `json:"level"`
	// Source is the part of the runtime that speaks, for example "storage".
	Source string `json:"source"`
	// Msg is one line of text.
	Msg string `json:"msg"`
	// Shown says that the message stands on the console already.
	Shown bool `json:"shown,omitempty"`
}

// Line returns the record as a JSON line.
func (r Record) Line() []byte {
	b, err := json.Marshal(r)
	if err != nil { // a float that is not a number; the text still matters
		b, _ = json.Marshal(Record{Level: r.Level, Source: r.Source, Msg: r.Msg})
	}
	return append(b, '\n')
}

// Notify tells process 1 a word. Outside of process 1's care, with EnvNotify
// unset, it does nothing.
func Notify(word string) error {
	v := os.Getenv(EnvNotify)
	if v == "" {
		return nil
	}
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return fmt.Errorf("reading %s: %q is not a descriptor number", EnvNotify, v)
	}
	if _, err := unix.Write(fd, []byte(word+"\n")); err != nil {
		return fmt.Errorf("telling process 1 %q: %w", word, err)
	}
	return nil
}

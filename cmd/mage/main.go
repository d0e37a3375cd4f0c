// Command mage is what "go tool mage" starts: magefile's mage, which outlives a
// SIGTERM and a SIGHUP as it does a SIGINT. It would die of them while its
// commands still work, and the go command reports a tool that dies of a signal
// as a success (exit code 0): a cancelled build would count as done.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/magefile/mage/mage"
)

func main() {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for s := range ends {
			pass(s.(syscall.Signal))
		}
	}()
	os.Exit(mage.Main())
}

// pass sends a signal on to what mage has started, which need not be in the group
// that was signalled (proc(5): /proc/PID/task/TID/children).
func pass(s syscall.Signal) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(text)) {
			var pid int
			if _, err := fmt.Sscan(word, &pid); err == nil && pid > 1 {
				_ = syscall.Kill(pid, s)
			}
		}
	}
}

// Command init is the first program of the test's guest: it prints the kernel's command
// line and ends. A test boot restarts the machine, any other boot powers it off.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func main() {
	_ = os.MkdirAll("/proc", 0o755)
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("mounting /proc:", err)
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Println("reading the command line:", err)
	}
	addons := 0
	if _, err := os.Stat("/addon"); err == nil {
		addons++
	}
	text := strings.TrimSpace(string(line))
	fmt.Printf("GUEST %s addons=%d\n", text, addons)
	how := syscall.LINUX_REBOOT_CMD_POWER_OFF
	if strings.Contains(text, "pv_rev=locals/new ") {
		how = syscall.LINUX_REBOOT_CMD_RESTART
	}
	if err := syscall.Reboot(how); err != nil {
		fmt.Println("restarting:", err)
	}
	select {}
}

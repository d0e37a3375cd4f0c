// Command stub stands in for the device binary in the virtual machine test: the
// real process 1 with an engine that obeys the kernel command line.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/pantavisor/pantavisor/runtime/handoff"
	pid1 "github.com/pantavisor/pantavisor/runtime/init"
)

func main() {
	ctx := context.Background()
	switch {
	case os.Getpid() == 1:
		pid1.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	case len(os.Args) > 1 && os.Args[1] == "cold-plug":
		os.Exit(pid1.ColdPlug(ctx, nil, os.Stdin, os.Stdout, os.Stderr))
	case len(os.Args) > 1 && os.Args[1] == "orphan":
		for os.Getppid() != 1 {
			runtime.Gosched() // the parent is about to leave
		}
		fmt.Println("STUB orphan", os.Getppid())
	case len(os.Args) > 1 && os.Args[1] == "parent":
		orphan := exec.Command("/proc/self/exe", "orphan")
		orphan.Stdout = os.Stdout
		_ = orphan.Start()
	default:
		os.Exit(engine())
	}
}

// engine shows what it was given and ends as stub= on the command line says: with
// an exit code, by a panic, or when it is asked to.
func engine() int {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("STUB pid1 is the parent:", os.Getppid() == 1)
	fmt.Println("STUB revision", os.Getenv(handoff.EnvRevision))
	_, err := strconv.Atoi(os.Getenv(handoff.EnvBootCPU))
	fmt.Println("STUB boot CPU is a number:", err == nil)
	go earlyLog()
	size()
	parent := exec.Command("/proc/self/exe", "parent")
	parent.Stdout = os.Stdout
	_ = parent.Run()
	if err := os.WriteFile("/storage/written", []byte("by the stub\n"), 0o644); err != nil {
		fmt.Println("STUB", err)
	}
	if b, err := os.ReadFile("/lib/modules/proof"); err == nil {
		fmt.Print("STUB modules: ", string(b))
	}
	if err := syscall.Mount("tmpfs", "/media", "tmpfs", 0, ""); err == nil {
		fmt.Println("STUB pivot:", pivot())
	}
	if err := handoff.Notify(handoff.Ready); err != nil {
		fmt.Println("STUB", err)
	}
	mode := os.Getenv("stub")
	if code, err := strconv.Atoi(mode); err == nil {
		return code
	}
	if mode == "panic" {
		panic("STUB panics")
	}
	fmt.Println("STUB waits")
	if s := <-asked; s == syscall.SIGINT {
		fmt.Println("STUB asked to power off")
		return handoff.ExitPowerOff
	}
	fmt.Println("STUB asked to reboot")
	return handoff.ExitReboot
}

func earlyLog() {
	fd, _ := strconv.Atoi(os.Getenv(handoff.EnvEarlyLog))
	lines := bufio.NewScanner(os.NewFile(uintptr(fd), "early log"))
	for lines.Scan() {
		if strings.Contains(lines.Text(), "process 1 of pantavisor starts") {
			fmt.Println("STUB early log:", lines.Text())
		}
	}
}

func size() {
	var st syscall.Statfs_t
	if err := syscall.Statfs("/storage", &st); err != nil {
		fmt.Println("STUB", err)
	}
	fmt.Println("STUB storage MiB", uint64(st.Blocks)*uint64(st.Bsize)>>20)
}

// pivot tries what every container start does, in a mount namespace of its own.
func pivot() error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := os.Chdir("/media"); err != nil {
		return err
	}
	return syscall.PivotRoot(".", ".")
}

package vm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Usage is what the runtime takes on a running device.
type Usage struct {
	// PSS is the proportional set size of all processes of the runtime, in KiB.
	PSS int
	// Processes are their names and process IDs.
	Processes []string
	// CPU is the time that all CPUs of the guest have worked since the kernel
	// started, in seconds (/proc/stat: user, nice, system, irq, softirq).
	CPU float64
	// RuntimeCPU is the part of it that the runtime's own processes took.
	RuntimeCPU float64
}

// Measure reads memory and CPU time on the device through the debug shell. The
// shell itself is not counted. It waits until the device has loaded the modules of
// all of its hardware, which it does once after the containers run.
func (d *Device) Measure(ctx context.Context) (Usage, error) {
	var u Usage
	if _, err := d.Run(ctx, `while grep -qsx pv-cold-plug /proc/[0-9]*/comm; do sleep 1; done`); err != nil {
		return u, err
	}
	// Every process that runs the device binary: its name, PSS and ticks.
	out, err := d.Run(ctx, `for p in /proc/[0-9]*; do case $(readlink $p/exe) in */pantavisor|/init|/usr/bin/pantavisor) `+
		`echo P ${p#/proc/} $(cat $p/comm) $(sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' $p/smaps_rollup) $(sed 's/.*) //' $p/stat | cut -d' ' -f12,13);; esac; done`)
	if err != nil {
		return u, err
	}
	if err := u.addProcesses(out); err != nil {
		return u, err
	}
	stat, err := d.Run(ctx, "head -n 1 /proc/stat")
	if err != nil {
		return u, err
	}
	u.CPU, err = busySeconds(stat)
	return u, err
}

// tick is the kernel's unit of CPU time towards user space (USER_HZ).
const tick = 100.0

func (u *Usage) addProcesses(out string) error {
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "P" {
			continue
		}
		if len(f) != 6 {
			return fmt.Errorf("reading the device's processes: %q", line)
		}
		n, err := numbers(f[3:])
		if err != nil {
			return fmt.Errorf("reading the device's processes: %q: %w", line, err)
		}
		u.Processes = append(u.Processes, f[2]+"/"+f[1])
		u.PSS += n[0]
		u.RuntimeCPU += float64(n[1]+n[2]) / tick
	}
	if len(u.Processes) == 0 {
		return fmt.Errorf("reading the device's processes: none runs the device binary: %q", out)
	}
	return nil
}

// busySeconds reads the line "cpu" of /proc/stat.
func busySeconds(line string) (float64, error) {
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, fmt.Errorf("reading the device's CPU time: %q", line)
	}
	n, err := numbers(f[1:8])
	if err != nil {
		return 0, fmt.Errorf("reading the device's CPU time: %w", err)
	}
	return float64(n[0]+n[1]+n[2]+n[5]+n[6]) / tick, nil
}

func numbers(words []string) ([]int, error) {
	out := make([]int, len(words))
	for i, w := range words {
		var err error
		if out[i], err = strconv.Atoi(w); err != nil {
			return nil, err
		}
	}
	return out, nil
}

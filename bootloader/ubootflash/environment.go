package ubootflash

import (
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/ubootstate"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// Settings are what the environment depends on.
type Settings struct {
	// Arguments are the kernel's.
	Arguments []string
	// Kernel, Initrd and State are where U-Boot sees these partitions, Memory where it copies
	// the initrd to. Second is where it sees the second copy of the state (package ubootstate).
	Kernel, Initrd, State, Second, Memory uint64
	// Size is that of the environment's partition in bytes.
	Size int
	// BigEndian is set for a CPU of that byte order.
	BigEndian bool
}

// variables returns U-Boot's variables. The commands are those that every U-Boot has; they
// follow the state table of package bootloader. length is that of the initrd in bytes,
// without its header.
func (s Settings) variables(length int64) ([]ubootenv.Entry, error) {
	for _, a := range s.Arguments {
		if strings.ContainsAny(a, " \t\"';$&|") {
			return nil, fault.New(fault.BadInput, "making U-Boot's environment: kernel.arguments %q has a character that U-Boot's commands give a meaning to", a)
		}
	}
	// U-Boot for MIPS does not tell the kernel where the initrd is.
	initrd := fmt.Sprintf("rd_start=%#x rd_size=%#x", s.Memory, length)
	arguments := strings.Join(append(append([]string{}, s.Arguments...), initrd, "rdinit=/init"), " ")
	return []ubootenv.Entry{
		{Name: "baudrate", Value: "115200"},
		// U-Boot sets this one itself, right after it has read the environment. Where little
		// memory is left for variables it must be there already, or the start ends with
		// "Cannot allocate space for boot parameters".
		{Name: "fdtcontroladdr", Value: "00000000"},
		{Name: "pv_args", Value: arguments},
		// The runtime may have been cut short while it wrote the first copy.
		{Name: "pv_copy", Value: fmt.Sprintf("setenv pv_at %x; setenv pv_mark %x; ", s.State, s.State+ubootstate.MarkAt) +
			fmt.Sprintf("if itest.l *%x != %x; then if itest.l *%x == %x; then ", s.State+ubootstate.CompleteAt, ubootstate.Word, s.Second+ubootstate.CompleteAt, ubootstate.Word) +
			fmt.Sprintf("setenv pv_at %x; setenv pv_mark %x; fi; fi", s.Second, s.Second+ubootstate.MarkAt)},
		{Name: "pv_read", Value: fmt.Sprintf("setenv pv_rev; setenv pv_try; env import -b ${pv_at} %x pv_rev pv_try; ", ubootstate.MarkAt) +
			`if test -n "${pv_rev}"; then true; else setenv pv_rev ` + trail.First + `; fi; setenv pv_boot "${pv_rev}"`},
		// Without the mark a bad revision would be tried for ever. Flash is written without
		// being erased, which only the runtime does: no power cut can harm more than the mark.
		{Name: "pv_pick", Value: fmt.Sprintf(`if test -n "${pv_try}"; then if itest.l *${pv_mark} == ffffffff; then mw.l %[1]x 0; cp.b %[1]x ${pv_mark} 4; `+
			`if itest.l *${pv_mark} == 0; then setenv pv_boot "${pv_try}"; fi; `+
			`else echo "The test of revision ${pv_try} has failed."; fi; fi`, s.Memory)},
		{Name: "pv_start", Value: `setenv bootargs "${pv_args} pv_rev=${pv_boot} pv_try=${pv_try}"; echo "Booting revision ${pv_boot}"; ` +
			fmt.Sprintf("iminfo %x && cp.b %x %x %x && bootm %x", s.Initrd, s.Initrd+uimage.HeaderSize, s.Memory, length, s.Kernel)},
		{Name: "bootcmd", Value: "run pv_copy; run pv_read; run pv_pick; run pv_start; reset"},
		{Name: "bootdelay", Value: "2"},
	}, nil
}

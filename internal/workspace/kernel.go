package workspace

import (
	"fmt"
	"io"

	"github.com/pantavisor/pantavisor/kernel"
)

// KernelCheck compares the configuration of a kernel with what the runtime needs, prints what is
// missing, and returns an error if anything is.
func (w *Workspace) KernelCheck(config string) error {
	c, err := kernel.ReadConfig(w.path(config))
	if err != nil {
		return err
	}
	lacks := c.Check()
	err = w.tell(lacks, func(out io.Writer) error {
		if len(lacks) == 0 {
			_, err := fmt.Fprintln(out, "the kernel has all options that the runtime needs")
			return err
		}
		for _, l := range lacks {
			if _, err := fmt.Fprintln(out, l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return kernel.Lacking(lacks)
}

package images

import (
	"fmt"
	"os"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// reportState reports the content of a state, key by key, with the sizes of its objects.
func reportState(w *build.Work, prefix string, st *state.State, store *objects.Store) error {
	for _, key := range st.Keys() {
		text, _ := st.Get(key)
		size := int64(len(text))
		if sum, ok := st.Object(key); ok {
			path, err := store.Path(sum)
			if err != nil {
				return fault.Wrap(fault.Internal, err, "listing %s", key)
			}
			info, err := os.Stat(path)
			if err != nil {
				return fault.Wrap(fault.IO, err, "listing %s", key)
			}
			size = info.Size()
		}
		w.Contains(prefix+key, size)
	}
	return nil
}

// reportPartitions reports position and size of the partitions of a disk.
func (c *composition) reportPartitions() {
	for i, s := range c.spans {
		c.work.Contains(fmt.Sprintf("partition %d %s (%s, from %s)", i+1, s.Name, s.Format, position(s.Start)), s.Length)
	}
}

// position returns an offset in MiB or, where that is no whole number, in KiB or bytes.
func position(at int64) string {
	switch {
	case at%mib == 0:
		return fmt.Sprintf("%d MiB", at/mib)
	case at%1024 == 0:
		return fmt.Sprintf("%d KiB", at/1024)
	}
	return fmt.Sprintf("byte %d", at)
}

// reportStorage reports the files of revision 0.
func (c *composition) reportStorage(stateJSON []byte, storage string) error {
	st, err := state.Parse(stateJSON)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the state of revision 0")
	}
	store, err := objects.Open(storage + "/" + fragment.Objects)
	if err != nil {
		return fault.Wrap(fault.IO, err, "listing revision 0")
	}
	return reportState(c.work, "revision 0: ", st, store)
}

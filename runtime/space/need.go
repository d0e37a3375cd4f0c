package space

import (
	"fmt"
	"path"

	"github.com/pantavisor/pantavisor/revision/state"
)

// storage is the name of the storage in a [Need].
const storage = "storage"

// small is what the files of a revision take that are about it: progress, commit message,
// what the boot loader reads. They are links or of one block each.
const small = 16

// mending is the space that an update may take of what is kept free: one that only removes
// something mends a device that is full.
const mending = Own / 2

// Install is what an update brings to a device.
type Install struct {
	State *state.State
	// Have returns the size of an object that the device has.
	Have func(sum string) (size int64, ok bool)
	// Comes returns the size of one that is still to come, as whoever has it says; nil knows none.
	Comes func(sum string) (size int64, ok bool)
	// LaidOut says that the files of the state are in the revision's directory already.
	LaidOut bool
	// Images are what the boot loader keeps in partitions of its own.
	Images []Image
}

// Image is a file that is written to a partition.
type Image struct {
	Partition string // its name
	Size      int64  // of the image in the partition, unpacked
	Capacity  int64  // of the partition
}

// Need is what an update needs of one partition, in bytes.
type Need struct {
	Partition           string // "storage", or that of an [Image]
	Required, Available int64
}

// Fits reports whether there is enough.
func (n Need) Fits() bool { return n.Required <= n.Available }

// Err returns an [*Error] unless there is enough; it names a partition that is not the storage.
func (n Need) Err() error {
	if n.Fits() {
		return nil
	}
	err := &Error{Required: n.Required, Available: n.Available}
	if n.Partition != storage {
		return fmt.Errorf("partition %s: %w", n.Partition, err)
	}
	return err
}

// Needs returns what an update needs at its peak of the storage, whose usage is u, and of
// each partition of the boot loader. unknown are the objects whose size is not known; they
// are not in the sum.
func (in *Install) Needs(u Usage) (needs []Need, unknown []string) {
	required, unknown := in.objects(u)
	if !in.LaidOut {
		required += in.files(u)
	}
	needs = append(needs, Need{storage, required, max(u.Available(), min(u.Free, mending))})
	for _, i := range in.Images {
		needs = append(needs, Need{Partition: i.Partition, Required: i.Size, Available: i.Capacity})
	}
	return needs, unknown
}

// objects returns the space of the objects that are missing.
func (in *Install) objects(u Usage) (required int64, unknown []string) {
	for _, sum := range in.State.Sums() {
		if _, have := in.Have(sum); have {
			continue
		}
		if size, known := in.size(sum); known {
			required += u.Blocks(size)
		} else {
			unknown = append(unknown, sum)
		}
	}
	return required, unknown
}

// size returns the size of an object.
func (in *Install) size(sum string) (size int64, known bool) {
	if size, known = in.Have(sum); !known && in.Comes != nil {
		size, known = in.Comes(sum)
	}
	return size, known
}

// files returns the space of the revision's directory: it has links to objects, copies of
// those that a container may change, and the values of the state as files.
func (in *Install) files(u Usage) int64 {
	required := small*u.Blocks(1) + u.Blocks(int64(len(in.State.Raw())))
	directories := map[string]bool{}
	for _, o := range in.State.Objects() {
		if u.NoLinks || path.Ext(o.Path) == ".bind" {
			size, _ := in.size(o.Sum)
			required += u.Blocks(size)
		}
		addDirectories(directories, o.Path)
	}
	for _, key := range in.State.Inlines() {
		value, _ := in.State.Get(key)
		required += u.Blocks(int64(len(value)))
		addDirectories(directories, key)
	}
	return required + int64(len(directories))*u.Blocks(1)
}

func addDirectories(all map[string]bool, key string) {
	for dir := path.Dir(key); dir != "." && !all[dir]; dir = path.Dir(dir) {
		all[dir] = true
	}
}

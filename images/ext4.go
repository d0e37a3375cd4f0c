package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// storageOptions are the values of image.config for the storage.
type storageOptions struct {
	// InodeRatio is the number of bytes per inode.
	InodeRatio int64
	// Journal is the size of the journal in MiB.
	Journal int64
	// Reserved is the part that only root may fill, in percent.
	Reserved int64
}

// storageOptions are those of image.config.
func (d *Disk) storageOptions() (storageOptions, error) {
	c, err := ReadImageConfig(d.Config)
	return c.storageOptions, err
}

// tally is the space that a tree of files needs on an ext4 file system.
type tally struct {
	blocks, inodes int64
}

const blockSize = 4096

// count walks a tree; a file with several names counts once.
func count(ctx context.Context, dir string) (*tally, error) {
	t := &tally{}
	err := tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
		if e.HardLink == "" {
			t.inodes++
			// One more block is for a directory, or for a deep extent tree.
			t.blocks += 1 + (e.Size+blockSize-1)/blockSize
		}
		return nil
	})
	return t, fault.Wrap(fault.IO, err, "counting what the storage holds")
}

// need returns the smallest size in MiB of a file system for the tree.
func (t *tally) need(o storageOptions) int64 {
	fixed := t.blocks*blockSize + o.Journal*mib + 4*mib
	// Inode tables take 256 bytes for each InodeRatio bytes of the file system.
	total := fixed * o.InodeRatio / (o.InodeRatio - 256)
	if byInodes := (t.inodes + 16) * o.InodeRatio; byInodes > total {
		total = byInodes
	}
	// mke2fs refuses a journal of more than half of the file system.
	return max((total+mib-1)/mib, 2*o.Journal+1)
}

// features are the default features of ext4 in Debian 12's mke2fs, listed explicitly so
// that a configuration file cannot change the image.
const features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super," +
	"large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// makeExt4 makes a file system with the content of dir in a range of an image that holds
// zeros. nodiscard and UNIX_IO_NOZEROOUT make mke2fs write the zeros of inode tables and
// journal instead of punching holes: as data of the image they are also written to a used
// medium that is flashed by block map.
func makeExt4(ctx context.Context, w *build.Work, t Tools, image string, s span, id identity, o storageOptions, dir string, what *tally, at build.Stamp) error {
	uuid := strings.ToLower(id.uuid("storage"))
	extended := fmt.Sprintf("offset=%d,root_owner=0:0,hash_seed=%s,lazy_itable_init=0,lazy_journal_init=0,nodiscard",
		s.Start, strings.ToLower(id.uuid("hash seed")))
	env := []string{fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", at.Seconds()), "UNIX_IO_NOZEROOUT=1"}
	err := call(ctx, w, t, env, "mke2fs", "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(blockSize), "-I", "256",
		"-i", strconv.FormatInt(o.InodeRatio, 10), "-J", fmt.Sprintf("size=%d", o.Journal), "-m", strconv.FormatInt(o.Reserved, 10),
		"-L", s.Name, "-U", uuid, "-O", features, "-E", extended, "-d", dir, image, fmt.Sprintf("%dk", s.Length/1024))
	if err != nil {
		return err
	}
	return stampExt4(ctx, w, t, image, s, what.inodes, at, env)
}

// stampExt4 sets owner and times of every inode: mke2fs copies them from the staged
// files, which belong to the user who builds and whose change time cannot be set.
func stampExt4(ctx context.Context, w *build.Work, t Tools, image string, s span, inodes int64, at build.Stamp, env []string) error {
	script := filepath.Join(w.Tmp, "times")
	f, err := os.Create(script)
	if err != nil {
		return fault.Wrap(fault.IO, err, "stamping the storage")
	}
	b := bufio.NewWriter(f)
	for _, n := range storedInodes(inodes) {
		fmt.Fprintf(b, "set_inode_field <%d> uid 0\nset_inode_field <%d> gid 0\n", n, n)
		for _, field := range []string{"atime", "ctime", "mtime"} {
			fmt.Fprintf(b, "set_inode_field <%d> %s @%d\n", n, field, at.Seconds())
		}
	}
	if err := errors.Join(b.Flush(), f.Close()); err != nil {
		return fault.Wrap(fault.IO, err, "stamping the storage")
	}
	return call(ctx, w, t, env, "debugfs", "-w", "-f", script, fmt.Sprintf("%s?offset=%d", image, s.Start))
}

// storedInodes returns the inode numbers that mke2fs assigns: 2 to the top directory, 11
// to lost+found, and from 12 on in the order of the tree.
func storedInodes(count int64) []int64 {
	out := []int64{2, 11}
	for n := int64(12); n < 12+count-1; n++ {
		out = append(out, n)
	}
	return out
}

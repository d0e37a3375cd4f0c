package container

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A directory that a container exports is mounted at the same place below the device's
// directory for exports, where other containers' configurations find it (manual:
// Containers, exports). The first stage takes a copy of the mount and hands it out
// over its socket; mounts that the container makes below it later appear in the copy.

// stageExport is the prefix of the first stage's message with an export; the index of
// the export follows.
const stageExport = "export "

// export sends the container's exports to the launcher.
func (s *stage) export() error {
	for i, p := range s.plan.Exports {
		tree, err := s.shareMount(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		err = unix.Sendmsg(s.sock, []byte(stageExport+strconv.Itoa(i)), unix.UnixRights(tree), nil, 0)
		_ = unix.Close(tree)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// shareMount makes a path a shared mount and copies it with all mounts below it.
func (s *stage) shareMount(p string) (int, error) {
	if err := s.bindInside(p, p, ""); err != nil {
		return -1, err
	}
	fd, err := s.inside(p, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	if err := unix.Mount("", fdPath(fd), "", unix.MS_SHARED, ""); err != nil {
		return -1, err
	}
	tree, err := unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return -1, errors.New("exports need Linux 5.2")
	}
	return tree, err
}

// exportPaths returns the exports as absolute paths.
func exportPaths(list []string) (clean []string, err error) {
	for _, e := range list {
		p := path.Clean("/" + e)
		if p == "/" || strings.IndexByte(p, 0) >= 0 {
			return nil, fmt.Errorf("%q cannot be exported", clip(e))
		}
		clean = append(clean, p)
	}
	return clean, nil
}

// placeExport mounts an export that the first stage sent.
func (st *starting) placeExport(word string, tree *os.File) error {
	n, err := strconv.Atoi(word)
	if err != nil || n < 0 || n >= len(st.plan.Exports) {
		_ = tree.Close()
		return fmt.Errorf("the first stage sent the unknown export %q", word)
	}
	st.exported = append(st.exported, tree)
	p := st.plan.Exports[n]
	to, err := exportTarget(st.ExportDir, filepath.Join(st.Name, p), isDir(tree))
	if err != nil {
		return fmt.Errorf("making the mount point of export %s: %w", p, err)
	}
	defer unix.Close(to)
	err = unix.MoveMount(int(tree.Fd()), "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("mounting export %s: %w", p, err)
	}
	return nil
}

func isDir(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.IsDir()
}

// exportTarget opens the mount point of an export and makes it when it is missing. An
// export may be below another one, in a directory that the container writes to, so
// symbolic links are never followed.
func exportTarget(dir, name string, directory bool) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return -1, err
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		last := i == len(parts)-1
		next, err := openPlace(at, part, directory || !last)
		_ = unix.Close(at)
		if err != nil {
			return -1, fmt.Errorf("%s: %w", strings.Join(parts[:i+1], "/"), err)
		}
		at = next
	}
	return at, nil
}

func openPlace(at int, part string, directory bool) (int, error) {
	var err error
	if directory {
		err = unix.Mkdirat(at, part, 0o755)
	} else {
		var fd int
		if fd, err = unix.Openat(at, part, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644); err == nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return unix.Openat2(at, part, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH})
}

// dropExports unmounts the container's exports and removes their empty mount points.
func (st *starting) dropExports() error {
	var errs []error
	for _, tree := range slices.Backward(st.exported) {
		err := unix.Unmount(fdPath(int(tree.Fd())), unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting an export: %w", err))
		}
		_ = tree.Close()
	}
	if st.exported != nil {
		removeEmptyDirectories(filepath.Join(st.ExportDir, st.Name))
	}
	st.exported = nil
	return errors.Join(errs...)
}

// removeEmptyDirectories removes a tree of empty directories and files, and nothing else.
func removeEmptyDirectories(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		if e.IsDir() {
			removeEmptyDirectories(p)
		} else if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			_ = os.Remove(p)
		}
	}
	_ = os.Remove(dir)
}

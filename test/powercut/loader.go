package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/pantavisor/pantavisor/formats/fatfile"
	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
)

// bootSize bounds what is read of a boot partition, in bytes.
const bootSize = 64 << 20

// A loader reads a medium as a boot loader does.
type loader interface {
	// values reads the variables of the store's file and the loader's mark.
	values(disk io.ReaderAt, f *ext4) (map[string]string, error)
	// needed are the files of a revision that must be there so that it is tried, relative to
	// its directory .pv; one of the lists.
	needed() [][]string
}

// newLoader returns the loader of an image whose boot partition begins at byte at; kind is
// PV_BOOTLOADER_TYPE.
func newLoader(kind string, image io.ReaderAt, at int64) (loader, error) {
	switch kind {
	case "grub":
		env, err := findBlock(image, at)
		return &grub{env}, err
	case "uboot":
		return &uboot{at}, nil
	}
	return nil, fmt.Errorf("boot loader %s: its way of reading is not known here", kind)
}

// grub has its mark in an environment block on the boot partition, which it overwrites in
// place.
type grub struct{ env int64 }

// environment begins a block of GRUB's.
var environment = []byte("# GRUB Environment Block\n")

// findBlock returns the place of the boot partition's environment block.
func findBlock(image io.ReaderAt, from int64) (int64, error) {
	part := make([]byte, bootSize)
	if err := readBase(image, part, from); err != nil {
		return 0, err
	}
	found := int64(-1)
	for at := 0; at < len(part); at += sector { // GRUB's program has the line too, elsewhere
		if !bytes.HasPrefix(part[at:], environment) {
			continue
		}
		if found >= 0 {
			return 0, errors.New("the boot partition has two environment blocks of GRUB")
		}
		found = int64(at)
	}
	if found < 0 {
		return 0, errors.New("the boot partition has no environment block of GRUB")
	}
	return from + found, nil
}

func (g *grub) values(disk io.ReaderAt, f *ext4) (map[string]string, error) {
	var mark [1024]byte
	if _, err := disk.ReadAt(mark[:], g.env); err != nil {
		return nil, err
	}
	out := map[string]string{}
	store, err := f.file("boot/grubenv", 64<<10)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for i, text := range [][]byte{store, mark[:]} {
		env, err := grubenv.Parse(text)
		if err != nil { // GRUB goes on without
			continue
		}
		for _, name := range [][]string{{"pv_rev", "pv_try", "pv_trial"}, {"pv_trying"}}[i] {
			out[name] = env[name]
		}
	}
	return out, nil
}

func (*grub) needed() [][]string { return [][]string{{"pv-kernel.img", "pv-initrd.img"}} }

// uboot has its mark in a text file on the boot partition.
type uboot struct{ at int64 }

func (u *uboot) values(disk io.ReaderAt, f *ext4) (map[string]string, error) {
	out := map[string]string{}
	store, err := f.file("boot/uboot.txt", 64<<10)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range ubootenv.Parse(store) {
		if slices.Contains([]string{"pv_rev", "pv_try", "pv_trial"}, e.Name) {
			out[e.Name] = e.Value
		}
	}
	mark, err := fatfile.Read(io.NewSectionReader(disk, u.at, bootSize), "pv.env")
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	for _, e := range ubootenv.Parse(mark) {
		if e.Name == "pv_trying" {
			out[e.Name] = e.Value
		}
	}
	return out, err
}

func (*uboot) needed() [][]string { return [][]string{{"pv-initrd.img"}, {"pantavisor.fit"}} }

// pick is the revision that the loader starts, with the mark that it leaves.
func pick(l loader, disk io.ReaderAt, f *ext4) (rev string, v map[string]string, err error) {
	if v, err = l.values(disk, f); err != nil {
		return "", nil, fmt.Errorf("the loader cannot read its store: %w", err)
	}
	s := spec.State{Rev: v["pv_rev"], Try: v["pv_try"], Trial: v["pv_trial"], Trying: v["pv_trying"]}
	if s.Rev == "" {
		s.Rev = "0"
	}
	first, _ := spec.Pick(s)
	if first == s.Try && first != s.Rev && !there(l, f, first) {
		first = s.Rev
	}
	for _, r := range []string{first, s.Rev, "0"} {
		if there(l, f, r) {
			return r, v, nil
		}
	}
	return "", v, errors.New("the loader finds no revision that it can start")
}

// there reports whether the loader finds the files of a revision.
func there(l loader, f *ext4, rev string) bool {
	return slices.ContainsFunc(l.needed(), func(names []string) bool {
		return !slices.ContainsFunc(names, func(name string) bool {
			_, err := f.find("trails/" + rev + "/.pv/" + name)
			return err != nil
		})
	})
}

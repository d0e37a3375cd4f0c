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
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
)

// bootSize bounds what is read of a boot partition, in bytes.
const bootSize = 64 << 20

// view is a disk as it is when its power comes back.
type view struct {
	disk    *disk
	raw     part  // the storage, as a loader reads it
	files   *ext4 // its file system: without the journal
	mounted part  // the storage with its journal replayed, as the kernel mounts it
	after   *ext4 // its file system
}

// newView returns the view of a disk of size bytes whose storage begins at a place. What fails to
// be read is a brick.
func newView(d *disk, storage, size int64) (v *view, err error) {
	v = &view{disk: d, raw: part{d, storage}, mounted: part{newDisk(d, size), storage}}
	if v.files, err = openExt4(v.raw); err != nil {
		return nil, fmt.Errorf("the loader cannot read the storage: %w", err)
	}
	if _, err := mount(v.mounted); err != nil {
		return nil, fmt.Errorf("the kernel cannot mount the storage: %w", err)
	}
	if v.after, err = openExt4(v.mounted); err != nil {
		return nil, fmt.Errorf("the kernel cannot mount the storage: %w", err)
	}
	return v, nil
}

// state reads the state of a revision.
func (v *view) state(rev string) (*state.State, error) {
	doc, err := v.after.file("trails/"+rev+"/.pvr/json", 4<<20)
	if err != nil {
		return nil, fmt.Errorf("reading the state of revision %s: %w", rev, err)
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("reading the state of revision %s: %w", rev, err)
	}
	return st, nil
}

// revisionFile is the path of a link for the boot loader in the storage.
func revisionFile(rev string, link trail.BootLink) string {
	return "trails/" + rev + "/.pv/" + link.Name
}

// start is what a loader does.
type start struct {
	rev       string
	partition int    // that it starts; 0 when it takes the files from the storage
	read      string // what it has decided by
}

// A loader reads a disk as a boot loader does.
type loader interface {
	// pick decides what is started.
	pick(v *view) (start, error)
	// there reports whether it can start a revision as the last good one, once the storage was
	// mounted.
	there(v *view, rev string) bool
	// whole checks what it loads against the state of the revision.
	whole(j *judge, v *view, s start, st *state.State) error
	// values are those of the runtime's own store, with a copy of the storage's files at dir.
	values(v *view, s start, dir string) (boot.Values, error)
}

// newLoader returns the loader of a recorded device; it may use a directory dir of its own.
func newLoader(r *recording, image io.ReaderAt, dir string) (loader, error) {
	switch r.Loader {
	case "grub":
		env, err := findBlock(image, r.Parts[0].Start)
		return &scripted{r.Loader, &grub{env}}, err
	case "uboot":
		return &scripted{r.Loader, &uboot{r.Parts[0].Start}}, nil
	case "efiab", "rpiab":
		return &slotted{kind: r.Loader, parts: r.Parts, dir: dir, images: map[string]slotImage{}}, nil
	}
	return nil, fmt.Errorf("boot loader %s: its way of reading is not known here", r.Loader)
}

// scripted is a loader with a script that takes kernel and initrd of a revision from the storage.
type scripted struct {
	kind   string // PV_BOOTLOADER_TYPE
	script script
}

// script is what differs between them.
type script interface {
	// variables reads those of the store's file and the loader's mark.
	variables(disk io.ReaderAt, f *ext4) (map[string]string, error)
	// needed are the files of a revision that must be there so that it is tried, relative to
	// its directory .pv; one of the lists.
	needed() [][]string
}

func (l *scripted) pick(view *view) (start, error) {
	v, err := l.script.variables(view.disk, view.files)
	if err != nil {
		return start{}, fmt.Errorf("the loader cannot read its store: %w", err)
	}
	s := spec.State{Rev: v["pv_rev"], Try: v["pv_try"], Trial: v["pv_trial"], Trying: v["pv_trying"]}
	if s.Rev == "" {
		s.Rev = "0"
	}
	first, _ := spec.Pick(s)
	if first == s.Try && first != s.Rev && !l.has(view.files, first) {
		first = s.Rev
	}
	for _, r := range []string{first, s.Rev, "0"} {
		if l.has(view.files, r) {
			return start{rev: r, read: fmt.Sprint(v)}, nil
		}
	}
	return start{}, errors.New("the loader finds no revision that it can start")
}

func (l *scripted) there(v *view, rev string) bool { return l.has(v.after, rev) }

// has reports whether the loader finds the files of a revision.
func (l *scripted) has(f *ext4, rev string) bool {
	return slices.ContainsFunc(l.script.needed(), func(names []string) bool {
		return !slices.ContainsFunc(names, func(name string) bool {
			_, err := f.find("trails/" + rev + "/.pv/" + name)
			return err != nil
		})
	})
}

func (l *scripted) whole(j *judge, v *view, s start, st *state.State) error {
	links, err := trail.BootLinks(st, nil)
	if err != nil {
		return err
	}
	for _, link := range links {
		want, _ := st.Object(link.Target)
		if err := j.whole(v.raw, v.files, revisionFile(s.rev, link), want); err != nil {
			return fmt.Errorf("as the loader reads it: %w", err)
		}
	}
	return nil
}

func (l *scripted) values(_ *view, _ start, dir string) (boot.Values, error) {
	s, err := boot.Open(l.kind, dir)
	if err != nil {
		return boot.Values{}, err
	}
	return s.Load()
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

func (g *grub) variables(disk io.ReaderAt, f *ext4) (map[string]string, error) {
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

func (u *uboot) variables(disk io.ReaderAt, f *ext4) (map[string]string, error) {
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

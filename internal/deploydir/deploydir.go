// Package deploydir finds what a build with BitBake has deployed for a machine: the directory
// DEPLOY_DIR_IMAGE of OpenEmbedded-Core.
//
// Names are computed from the variables that the build has recorded in the image's
// testdata.json (meta/classes-recipe/rootfs-postcommands.bbclass, image-artifact-names.bbclass
// and kernel-artifact-names.bbclass), not guessed from what lies in the directory: with the
// series of 2024 and later an image's names end in .rootfs (IMAGE_NAME_SUFFIX), before they do
// not, and each build may set them to something else. Where two files could be meant, the error
// lists both.
package deploydir

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// What is read is bounded, in bytes. A testdata.json has all variables of an image.
const (
	maxTestdata = 32 << 20
	maxManifest = 16 << 20
)

const testdata = ".testdata.json"

// Image is an image that was built.
type Image struct {
	// Dir is the directory.
	Dir string
	// Machine is MACHINE.
	Machine string
	// Link is IMAGE_LINK_NAME, or IMAGE_NAME where a build makes no links: what the names of all
	// its files begin with.
	Link string
	vars map[string]string
}

// Find finds the image with that name, of a recipe or IMAGE_BASENAME, which was built for a
// machine.
func Find(dir, image, machine string) (*Image, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the deploy directory")
	}
	var found, others []*Image
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), testdata) {
			continue
		}
		i, err := open(dir, strings.TrimSuffix(e.Name(), testdata))
		if err != nil {
			return nil, err
		}
		switch {
		case i.Machine != machine || i.Var("PN") != image && i.Var("IMAGE_BASENAME") != image:
			others = append(others, i)
		case i.named():
			found = append(found, i)
		}
	}
	if found = distinct(found); len(found) == 1 {
		return found[0], nil
	}
	if len(found) == 0 {
		return nil, fault.New(fault.BadInput, "%s has no image %s for the machine %s: no %s file says so%s", dir, image, machine, "IMAGE_LINK_NAME"+testdata, listed("; there are", others))
	}
	return nil, fault.New(fault.BadInput, "%s has more than one image %s for the machine %s%s: remove those that are old", dir, image, machine, listed(":", found))
}

// open reads the variables of an image.
func open(dir, link string) (*Image, error) {
	file := filepath.Join(dir, link+testdata)
	text, err := bounded.ReadFile(file, maxTestdata)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the variables of an image")
	}
	i := &Image{Dir: dir, Link: link}
	if err := json.Unmarshal(text, &i.vars); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", file)
	}
	i.Machine = i.Var("MACHINE")
	return i, nil
}

// named reports whether the file is the one that stands for the newest build: the link, where the
// build makes one.
func (i *Image) named() bool {
	if link := i.Var("IMAGE_LINK_NAME"); link != "" {
		return link == i.Link
	}
	return i.Var("IMAGE_NAME") == i.Link
}

// distinct leaves one image of those whose links lead to the same file.
func distinct(list []*Image) []*Image {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(i *Image) bool {
		real, err := filepath.EvalSymlinks(filepath.Join(i.Dir, i.Link+testdata))
		again := err == nil && seen[real]
		seen[real] = true
		return again
	})
}

func listed(lead string, images []*Image) string {
	var names []string
	for _, i := range images {
		names = append(names, cmp.Or(i.Var("PN"), i.Link)+" for "+cmp.Or(i.Machine, "no machine")+" ("+i.Link+testdata+")")
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return lead + " " + strings.Join(names, ", ")
}

// Var returns the value of a variable, "" for one that is not set.
func (i *Image) Var(name string) string { return strings.TrimSpace(i.vars[name]) }

// Epoch is the time of the image in seconds since 1970.
func (i *Image) Epoch() (int64, error) {
	for _, name := range []string{"REPRODUCIBLE_TIMESTAMP_ROOTFS", "SOURCE_DATE_EPOCH"} {
		if text := i.Var(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, fault.New(fault.BadInput, "%s: %s=%q is not a time in seconds", i.Link+testdata, name, text)
			}
			return n, nil
		}
	}
	return 0, fault.New(fault.BadInput, "%s has neither REPRODUCIBLE_TIMESTAMP_ROOTFS nor SOURCE_DATE_EPOCH: say the time of the firmware", i.Link+testdata)
}

// Release returns the release of the kernel whose package, kernel-RELEASE, is in the image's
// manifest of lines NAME ARCHITECTURE VERSION; "" when there is none.
func (i *Image) Release() (string, error) {
	text, err := bounded.ReadFile(filepath.Join(i.Dir, i.Link+".manifest"), maxManifest)
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "reading the manifest of image %s", i.Link)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if release, ok := strings.CutPrefix(name, "kernel-"); ok && release != "" && release[0] >= '0' && release[0] <= '9' {
			found = append(found, release)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", fault.New(fault.BadInput, "%s.manifest has several kernels: %s", i.Link, strings.Join(found, ", "))
}

// file returns the path of a file of the directory, "" when it is not there.
func (i *Image) file(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", fault.New(fault.BadInput, "%q, from the variables of image %s, is not the name of a file in the deploy directory", name, i.Link)
	}
	at := filepath.Join(i.Dir, filepath.FromSlash(name))
	info, err := os.Stat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fault.Wrap(fault.IO, err, "looking for files of image %s", i.Link)
	case !info.Mode().IsRegular():
		return "", fault.New(fault.BadInput, "%s is not a regular file", at)
	}
	return at, nil
}

// one returns the one file that several names lead to.
func (i *Image) one(what string, names ...string) (string, error) {
	var found []string
	real := map[string]string{}
	for _, name := range names {
		at, err := i.file(name)
		if err != nil {
			return "", err
		}
		if at == "" {
			continue
		}
		to, err := filepath.EvalSymlinks(at)
		if err != nil {
			return "", fault.Wrap(fault.IO, err, "looking for %s", what)
		}
		if real[to] == "" {
			real[to], found = at, append(found, at)
		}
	}
	switch len(found) {
	case 0:
		return "", fault.New(fault.BadInput, "%s has no %s: want %s", i.Dir, what, strings.Join(names, " or "))
	case 1:
		return found[0], nil
	}
	return "", fault.New(fault.BadInput, "%s could be any of %s, which are different files: remove those that are old", what, strings.Join(found, ", "))
}

// Form is how a tree of files is stored.
type Form string

// The forms.
const (
	Tar      Form = "tar"
	Cpio     Form = "cpio"
	Squashfs Form = "squashfs"
)

// forms are those of IMAGE_FSTYPES that have the owners and devices of a root file system and are
// read without mounting them.
var forms = map[string]Form{
	"tar": Tar, "tar.gz": Tar, "tar.xz": Tar, "tar.zst": Tar, "tar.bz2": Tar,
	"cpio": Cpio, "cpio.gz": Cpio, "cpio.xz": Cpio, "cpio.zst": Cpio,
	"squashfs": Squashfs, "squashfs-xz": Squashfs, "squashfs-zst": Squashfs,
}

// FormOf returns the form that a type of IMAGE_FSTYPES has.
func FormOf(fstype string) (Form, error) {
	if f, ok := forms[fstype]; ok {
		return f, nil
	}
	return "", fault.New(fault.Unsupported, "the image type %q is not read: add one of %s to IMAGE_FSTYPES", fstype, typeNames())
}

func typeNames() string {
	var names []string
	for name := range forms {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Root returns the image's root file system and its type in IMAGE_FSTYPES: the one that is asked
// for, or the only one that is read.
func (i *Image) Root(fstype string) (file, kind string, err error) {
	types := strings.Fields(i.Var("IMAGE_FSTYPES"))
	if fstype != "" {
		types = []string{fstype}
		if _, err := FormOf(fstype); err != nil {
			return "", "", err
		}
	}
	var found []string
	for _, t := range slices.Compact(slices.Sorted(slices.Values(types))) {
		if _, ok := forms[t]; !ok {
			continue
		}
		at, err := i.file(i.Link + "." + t)
		if err != nil {
			return "", "", err
		}
		if at != "" {
			file, kind, found = at, t, append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return "", "", fault.New(fault.BadInput, "%s has no root file system %s.TYPE: add one of the types %s to IMAGE_FSTYPES", i.Dir, i.Link, typeNames())
	case 1:
		return file, kind, nil
	}
	return "", "", fault.New(fault.BadInput, "image %s has its root file system as %s: say which type to take", i.Link, strings.Join(found, " and as "))
}

// SBOM returns the document of SPDX 3 that the build has made for the image, "" without one.
func (i *Image) SBOM() (string, error) { return i.file(i.Link + ".spdx.json") }

// Kernel is what a kernel's recipe deploys.
type Kernel struct {
	// Image is the kernel in its form, Modules the archive of its modules, "" without one.
	Image, Modules string
	// Trees are the device trees by their names in KERNEL_DEVICETREE, VENDOR/BOARD.dtb.
	Trees []Tree
	// Passed are those entries of KERNEL_DEVICETREE that are overlays: which of them a board
	// wants, no variable says.
	Passed []string
}

// Tree is a device tree.
type Tree struct{ Name, File string }

// Kernel returns the kernel of the machine.
func (i *Image) Kernel() (*Kernel, error) {
	kind := i.Var("KERNEL_IMAGETYPE")
	switch kind {
	case "":
		return nil, fault.New(fault.BadInput, "%s has no KERNEL_IMAGETYPE: the machine %s has no kernel", i.Link+testdata, i.Machine)
	case "fitImage":
		return nil, fault.New(fault.Unsupported, "KERNEL_IMAGETYPE is fitImage, a FIT that has an initrd of its own: "+
			"build the plain kernel too, KERNEL_IMAGETYPES:append = \" Image\", and set KERNEL_IMAGETYPE to it; a FIT with our initrd is made by kernel.format")
	}
	dir := i.Var("KERNEL_DEPLOYSUBDIR")
	link := cmp.Or(i.Var("KERNEL_ARTIFACT_LINK_NAME"), i.Machine)
	of := func(name string) string { return cmp.Or(i.Var(name), link) }
	ext := ".bin"
	for _, name := range []string{"KERNEL_IMAGE_BIN_EXT", "KERNEL_ARTIFACT_BIN_EXT"} {
		if v, set := i.vars[name]; set {
			ext = v
			break
		}
	}
	k := &Kernel{}
	var err error
	if k.Image, err = i.one("kernel", path.Join(dir, kind+"-"+of("KERNEL_IMAGE_LINK_NAME")+ext), path.Join(dir, kind)); err != nil {
		return nil, err
	}
	if k.Modules, err = i.file(path.Join(dir, "modules-"+of("MODULE_TARBALL_LINK_NAME")+".tgz")); err != nil {
		return nil, err
	}
	return k, i.trees(k, dir)
}

// trees finds the device trees of KERNEL_DEVICETREE. They are deployed without the directory of
// their vendor (kernel-devicetree.bbclass).
func (i *Image) trees(k *Kernel, dir string) error {
	for _, name := range strings.Fields(i.Var("KERNEL_DEVICETREE")) {
		name = strings.TrimSuffix(name, ".dts")
		if path.Ext(name) == ".dtbo" {
			k.Passed = append(k.Passed, name)
			continue
		}
		if path.Ext(name) != ".dtb" {
			name += ".dtb"
		}
		if !fs.ValidPath(name) {
			return fault.New(fault.BadInput, "KERNEL_DEVICETREE of image %s: %q is not the name of a device tree", i.Link, name)
		}
		at, err := i.one("device tree "+name, path.Join(dir, path.Base(name)))
		if err != nil {
			return err
		}
		k.Trees = append(k.Trees, Tree{Name: name, File: at})
	}
	return nil
}

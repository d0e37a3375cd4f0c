package inputs

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// origin is where an input comes from, for errors about its content.
type origin struct {
	field string // its place in the list
	path  string
	want  string // what it has to be
}

// wrong completes an error of reading the input: unless the machine is its cause, the content is,
// and the error says where it is and what mends it. The kind that it has, i/o for example, is then
// that of the call that met the content: of a name that a file has twice, or that is too long.
func (o origin) wrong(err error) error {
	if err == nil {
		return nil
	}
	kind := fault.Of(err)
	if (kind == fault.IO || kind == fault.Internal || kind == fault.Missing) && !ofMachine(err) {
		kind = fault.BadInput
	}
	if kind != fault.BadInput {
		return fault.New(kind, "%s: taking %s: %w", o.field, o.path, err)
	}
	return fault.New(kind, "%s: %s cannot be taken: %w; want %s", o.field, o.path, err, o.want)
}

// ofMachine reports whether an error says more of this machine than of what was read.
func ofMachine(err error) bool {
	for _, no := range []syscall.Errno{
		syscall.EIO, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, no) {
			return true
		}
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// formNames say what a tree is in each form.
var formNames = map[string]string{
	"directory": "a directory with files, directories and symbolic links",
	"tar":       "a tar, plain or compressed with gzip, xz, zstd or bzip2",
	"cpio":      "a cpio archive in the form newc, plain or compressed with gzip, xz, zstd or bzip2",
	"squashfs":  "a squashfs of version 4",
	"oci":       "the directory of an OCI image layout",
}

// wants says what a tree in a place of the list has to be.
func wants(field, form string) string {
	what := formNames[form]
	switch {
	case field == "kernel.modules":
		what += ", with lib/modules/RELEASE as make modules_install writes it"
	case strings.HasPrefix(field, "kernel.firmware"):
		what += ", with lib/firmware"
	case strings.HasPrefix(field, "containers"):
		what += ", with the root file system of the container"
	case strings.HasPrefix(field, "bootloader.packages"):
		what += ", with the content of the package as Debian has it"
	}
	return what
}

// contents checks those inputs that are not read by a step of this package, before anything is
// written. The error has all that are wrong.
func (l *List) contents(ctx context.Context, in *images.Inputs) error {
	var errs []error
	check := func(field, path, want string, read func(file string) error) {
		errs = append(errs, origin{field, path, want}.wrong(read(l.place(path))))
	}
	c := l.Config
	const settings = "lines NAME=VALUE"
	check("config.runtime", c.Runtime.Path, settings, func(string) error { return images.CheckSettings(in.Config.Runtime) })
	check("config.hub", c.Hub.Path, settings, func(string) error { return images.CheckSettings(in.Config.Hub) })
	if c.Image != nil {
		check("config.image", c.Image.Path, settings, func(string) error {
			_, err := images.ReadImageConfig(in.Config.Image)
			return err
		})
	}
	check("config.defaults", c.Defaults.Path, "a directory with groups.json and policies, as config/defaults", func(string) error {
		return images.CheckGroups(in.Config.Defaults)
	})
	for field, d := range map[string]*Directory{"config.defaults": &c.Defaults, "config.skel": c.Skel, "config.stepskel": c.Stepskel} {
		if d != nil {
			check(field, d.Path, wants(field, "directory"), func(dir string) error { return checkTypes(ctx, dir) })
		}
	}
	for i, t := range c.Trust {
		check(indexed("config.trust", i), t.Path, "a PEM file with certificates or public keys", checkTrust)
	}
	if l.Kernel != nil && l.Kernel.Config != nil {
		check("kernel.config", l.Kernel.Config.Path, "the kernel's .config", func(file string) error {
			_, err := kernel.ReadConfig(file)
			return err
		})
	}
	for i, a := range l.Addons {
		if a.Directory != nil {
			field := indexed("addons", i) + ".directory"
			check(field, a.Directory.Path, wants(field, "directory"), func(dir string) error { return checkTypes(ctx, dir) })
			continue
		}
		check(indexed("addons", i)+".archive", a.Archive.Path, "an archive for an initrd, cpio in the form newc", func(file string) error {
			return checkInitrd(ctx, file)
		})
	}
	for i, d := range l.SBOM {
		if path.Ext(d.Name) == ".csv" {
			check(indexed("sbom", i), d.Path, "a table in CSV", checkCSV)
			continue
		}
		check(indexed("sbom", i), d.Path, "a document in JSON, or a table whose name ends in .csv", func(file string) error { return checkJSON(ctx, file) })
	}
	for i, d := range l.VEX {
		check(indexed("vex", i), d.Path, "statements in OpenVEX or CycloneDX", func(file string) error { return vulns.New().VEX(ctx, file) })
	}
	return errors.Join(append(errs, l.blobs(), l.signable(ctx))...)
}

// blobs checks that what is outside of file systems has the space that is said.
func (l *List) blobs() error {
	if l.Bootloader == nil {
		return nil
	}
	var errs []error
	t := l.target()
	for i, b := range l.Bootloader.Blobs {
		info, err := os.Stat(l.place(b.Path))
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading %s", indexed("bootloader.blobs", i))
		}
		size := info.Size() - int64(b.Skip)
		if b.Length > 0 {
			size = min(size, int64(b.Length))
		}
		if limit := int64(t.BlobMax(t.Bootloader.Blobs[i])); limit > 0 && size > limit {
			errs = append(errs, fault.New(fault.BadInput, "%s: %s has %d bytes, more than the %d that are reserved for it: raise max, or take another file",
				indexed("bootloader.blobs", i), b.Path, size, limit))
		}
	}
	return errors.Join(errs...)
}

// signable checks key and certificates.
func (l *List) signable(ctx context.Context) error {
	s, ok := l.signer().(*signer)
	if !ok || s == nil {
		return nil
	}
	_, err := s.options(ctx, io.Discard)
	return err
}

func checkTrust(file string) error {
	text, err := bounded.ReadRegular(file, maxPEM)
	if err != nil {
		return err
	}
	_, noKeys := trust.ParsePublicKeys(text)
	_, noCertificates := trust.ParseCertificates(text)
	if noKeys != nil && noCertificates != nil {
		return errors.Join(noCertificates, noKeys)
	}
	return nil
}

// checkTypes checks that a directory has no devices, pipes and sockets.
func checkTypes(ctx context.Context, dir string) error {
	return tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
		if special(e.Mode, e.HardLink) {
			return fault.New(fault.BadInput, "%s is %s", e.Name, typeName(e.Mode))
		}
		return nil
	})
}

// checkCSV checks that a file is a table (RFC 4180), whose rows have as many fields as the first.
func checkCSV(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	rows := csv.NewReader(f)
	rows.ReuseRecord = true
	for n := 0; ; n++ {
		_, err := rows.Read()
		if errors.Is(err, io.EOF) && n == 0 {
			return errors.New("the table is empty")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading CSV: %w", err)
		}
	}
}

// checkJSON checks that a file is one value in JSON.
func checkJSON(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	in := json.NewDecoder(ctxio.Reader(ctx, f))
	in.UseNumber()
	for depth, n := 0, 0; ; n++ {
		word, err := in.Token()
		switch {
		case errors.Is(err, io.EOF) && n > 0 && depth == 0:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the JSON ends early")
		case err != nil:
			return fmt.Errorf("reading JSON: %w", err)
		case n > 0 && depth == 0:
			return errors.New("there is something behind the JSON")
		}
		if d, ok := word.(json.Delim); ok && (d == '{' || d == '[') {
			depth++
		} else if ok {
			depth--
		}
	}
}

// lz4Magic is what archives begin with that are compressed as "lz4 -l" does (Linux:
// lib/decompress.c).
const lz4Magic = "\x02\x21\x4c\x18"

// checkInitrd checks that a file begins as an archive that the kernel unpacks.
func checkInitrd(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(lz4Magic))
	if _, err := io.ReadFull(f, head); err == nil && string(head) == lz4Magic {
		return nil // which is not read here
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in, err := plain(bufio.NewReader(ctxio.Reader(ctx, f)))
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := cpio.NewReader(in).Next(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

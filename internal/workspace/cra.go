package workspace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/sbom/cra"
	"github.com/pantavisor/pantavisor/targets"
)

// The files that CRA writes beside the results of a target.
const (
	craText = "cra.md"
	craJSON = "cra.json"
)

// CRA writes the list for the technical file of a target that was built, as Markdown and JSON.
func (w *Workspace) CRA(ctx context.Context, target string, o VulnsOptions) error {
	name := w.targetName(target)
	if !w.known(name) {
		_, err := w.load(target)
		return errors.Join(err, missingBuild(err, name))
	}
	b, err := w.bills(ctx, name)
	if err != nil {
		return err
	}
	j, err := w.open(ctx, name)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // nothing is written
	f := w.technical(j)
	f.Contents(b.Bills)
	if len(w.dataOf(o)) > 0 {
		r, err := w.scan(ctx, b, o)
		if err != nil {
			return err
		}
		for i := range r.Data { // the same on every machine
			r.Data[i].Path = filepath.Base(r.Data[i].Path)
		}
		f.Known(r)
	}
	if err := f.trusted(j.inputs.Config); err != nil {
		return err
	}
	f.Complete()
	return w.writeCRA(f.File, w.Out(name))
}

// missingBuild is the error of a target without results.
func missingBuild(err error, name string) error {
	if err != nil {
		return nil // the target is not known
	}
	return fault.New(fault.Missing, "target %s has not been built: mage build %s makes its bill of materials", name, name)
}

// writeCRA writes both forms and says where they are.
func (w *Workspace) writeCRA(f *cra.File, dir string) error {
	var text bytes.Buffer
	err := f.Markdown(&text)
	data, wrong := json.MarshalIndent(f, "", "  ")
	if err = errors.Join(err, wrong); err != nil {
		return fault.Wrap(fault.Internal, err, "writing the technical file")
	}
	for name, content := range map[string][]byte{craText: text.Bytes(), craJSON: append(data, '\n')} {
		if err := atomicfile.Write(filepath.Join(dir, name), content, 0o644); err != nil {
			return fault.Wrap(fault.IO, err, "writing the technical file")
		}
	}
	return w.tell(f, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "%s\n%s\n", filepath.Join(dir, craText), filepath.Join(dir, craJSON))
		for _, g := range f.Gaps {
			_, wrong := fmt.Fprintf(out, "missing  %s\n", cell.Printable(g))
			err = errors.Join(err, wrong)
		}
		return err
	})
}

// technical is a technical file with what the inputs of a target say.
type technical struct{ *cra.File }

func (w *Workspace) technical(j *job) *technical {
	t, in := j.target, j.inputs
	device, _, err := onDevice(t, in.Config)
	f := &technical{&cra.File{
		Format: cra.Format,
		Product: cra.Product{
			Target: t.Name, Description: t.Description, Release: in.Release, Arch: t.Arch.String(), Built: in.Epoch.Time().UTC(), Support: in.Support,
		},
		Keys: []cra.Key{},
	}}
	f.updates(t, device)
	f.reset(device)
	f.Access = w.unreleasable(t, withoutTrust(in))
	if err != nil {
		f.Access = append(f.Access, err.Error())
	}
	for _, name := range build.SignatureNames() {
		if _, err := os.Stat(filepath.Join(w.Out(t.Name), name)); err == nil {
			f.Signatures = append(f.Signatures, name)
		}
	}
	return f
}

// withoutTrust are inputs without keys: those are listed by themselves.
func withoutTrust(in *images.Inputs) *images.Inputs {
	out := *in
	out.Config.Trust = nil
	return &out
}

// fallbacks say for each value of bootloader.type whether a kernel that does not come up is left by
// itself, and how.
var fallbacks = map[string]struct {
	tried bool
	how   string
}{
	"grub":        {true, "GRUB starts the committed revision after one boot of another that was not committed"},
	"uboot":       {true, "U-Boot starts the committed revision after one boot of another that was not committed"},
	"rpi-uboot":   {true, "U-Boot starts the committed revision after one boot of another that was not committed"},
	"uboot-ab":    {true, "U-Boot starts the slot of the committed revision after one boot of the other"},
	"rpiab":       {true, "the firmware boots the other partition once, and then the committed one"},
	"efiab":       {true, "GRUB starts the other partition once, and then the committed one"},
	"extlinux":    {true, "the runtime of a revision under test makes the committed one the default again; a kernel that does not come that far must be left at the loader's prompt"},
	"uboot-flash": {false, "there is one kernel, in the flash: updates of containers fall back, those of the BSP are not tried"},
	"rpi":         {false, "the firmware starts one kernel: updates of containers fall back, those that restart the device are not tried"},
}

func (f *technical) updates(t *targets.Target, device *config.Config) {
	u := &f.Updates
	u.Trials, u.Delay, u.Goals = device.Int(config.UpdaterTrials), device.Int(config.UpdaterCommitDelay), device.Int(config.UpdaterGoalsTimeout)
	switch {
	case t.Bootloader != nil:
		way := fallbacks[t.Bootloader.Type]
		u.Loader, u.Tried, u.How = t.Bootloader.Type, way.tried, way.how
	case t.AppEngine != nil:
		u.Tried, u.How = true, "containers of the revision before are started again; the host system is updated by itself"
	default:
		u.How = "the boot loader is not part of what is built"
	}
	u.Signatures = "PV_SECUREBOOT_MODE=" + device.Enum(config.SecurebootMode)
	u.Channels = []string{"the control socket and the device's web server, from a user of the device or a container with the role mgmt"}
	if device.Bool(config.ControlRemote) {
		u.Channels = append(u.Channels, "the Hub, when the device is claimed there (PV_CONTROL_REMOTE=1)")
	}
}

func (f *technical) reset(device *config.Config) {
	f.Reset.Kept = device.Bool(config.StorageGCKeepFactory)
	f.Reset.How = []string{
		"revision 0 is the software as it was delivered; pvcontrol cmd run-commit 0 goes back to it, and keeps what containers have stored",
		"writing the image again (mage flash, or the installer) removes everything that was stored",
	}
}

// trusted adds the keys and certificates that the device trusts.
func (f *technical) trusted(c images.Config) error {
	for _, s := range c.Trust {
		text, err := bounded.ReadRegular(s.Path, maxTrust)
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading keys that the device trusts")
		}
		if f.PublicKeys(s.Name, text) > 0 || !strings.HasSuffix(s.Name, ".crt") {
			continue
		}
		certificates, err := trust.ParseCertificates(text)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "reading %s", s.Path)
		}
		for _, certificate := range certificates {
			f.Certificate(s.Name, certificate, thrownAway(certificate))
		}
	}
	return nil
}

package yocto

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// parts is the directory with what the recipes of the test layer take for a machine: the inputs of
// a target, as mage inputs saves them, with a partial list of those that no recipe makes.
func (o *Options) parts(machine string) string { return filepath.Join(o.Work, "parts", machine) }

// made returns the one file of the build, below its TMPDIR, that a pattern matches. TMPDIR is tmp, and
// with scarthgap tmp-glibc.
func (o *Options) made(pattern ...string) (string, error) {
	found, err := filepath.Glob(filepath.Join(append([]string{o.Work, "build/tmp*"}, pattern...)...))
	if err != nil || len(found) != 1 {
		return "", fault.New(fault.Goal, "looking for what was made, %s: %d files %v; want one", filepath.Join(pattern...), len(found), found)
	}
	return found[0], nil
}

// deployed is the place of what a machine's recipe has deployed, for [Options.made].
func deployed(machine, recipe string) string {
	return filepath.Join("deploy/images", machine, recipe)
}

// save saves the inputs of the machine's target, and makes the partial list.
func save(ctx context.Context, o *Options, machine, _ string) (string, error) {
	dir := o.parts(machine)
	if err := os.RemoveAll(dir); err != nil {
		return "", fault.Wrap(fault.IO, err, "removing the inputs of an earlier run")
	}
	if err := o.Save(ctx, targetOf[machine], dir); err != nil {
		return "", err
	}
	l, err := inputs.Read(filepath.Join(dir, inputs.ListFile))
	if err != nil {
		return "", err
	}
	text, err := partial(l, dir, madeLoader[machine])
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "making the partial list")
	}
	// It has a directory of its own, all of which BitBake takes for an input.
	file := filepath.Join(dir, "with/partial.json")
	if err = os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	return "", fault.Wrap(fault.IO, err, "writing the partial list")
}

// madeLoader are the machines whose boot loader's script and state pvcompose makes; on the others
// the files of the target's are taken. The arguments of the kernel are in PV_BOOT_OEMARGS of the
// recipe then.
var madeLoader = map[string]map[string]any{
	"qemuarm64": {"type": "uboot", "addresses": map[string]any{"initrd": 0x48000000}},
}

// partial returns what of a list no recipe makes: boot loader, layout of the medium and
// configuration.
func partial(l *inputs.List, dir string, loader map[string]any) ([]byte, error) {
	l.Absolute(dir)
	text, err := l.Encode()
	if err != nil {
		return nil, err
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for _, field := range []string{"#spec", "target", "release", "epoch", "arch", "outputs", "runtime", "exports"} {
		delete(all, field)
	}
	kernel, ok := all["kernel"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the target has no kernel")
	}
	delete(kernel, "image")
	delete(kernel, "modules")
	if loader != nil {
		all["bootloader"] = loader
	}
	return json.MarshalIndent(all, "", "  ")
}

// boot boots the image of the machine.
func boot(ctx context.Context, o *Options, machine, _ string) (string, error) {
	image, err := o.made(deployed(machine, "pv-test-device"), "*.img")
	if err != nil {
		return "", err
	}
	return filepath.Base(image), o.Boot(ctx, targetOf[machine], image)
}

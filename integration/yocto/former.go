package yocto

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

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
)

// formerMachine is the machine of the recipes with the variables of the former layer: one whose
// boot loader takes arguments and device trees.
const formerMachine = "qemuarm64"

// wanted is a value in a revision's state: of a member of a JSON document, or "" for the whole.
type wanted struct{ key, member, text string }

// ofFormer are what the variables and files of the recipe pv-former-app become (its recipe in the
// test layer says which is which).
var ofFormer = []wanted{
	{"pv-former-app/run.json", "group", `"platform"`},
	{"pv-former-app/run.json", "roles", `["mgmt","nobody"]`},
	{"pv-former-app/run.json", "status_goal", `"READY"`},
	{"pv-former-app/run.json", "restart_policy", `"system"`},
	{"pv-former-app/run.json", "network", `{"pools":["former"]}`},
	{"pv-former-app/run.json", "storage", `{"dockerovl--etc":{"persistence":"boot"},"dockerovl--var":{"persistence":"permanent"},"lxc-overlay":{"persistence":"boot"}}`},
	{"pv-former-app/src.json", "args", `{"PV_DEBUG_MODE":"yes","PV_GROUP":"platform","PV_RESTART_POLICY":"system","PV_ROLES":["mgmt","nobody"],"PV_STATUS_GOAL":"READY"}`},
	{"pv-former-app/src.json", "docker_config", `{"Entrypoint":["/bin/app"],"Env":["FORMER=1"]}`},
	{"pv-former-app/mdev.json", "rules", `["ttyS0 0:0 660"]`},
	{"pv-former-app/services.json", "services", `[{"name":"former","socket":"/run/former.sock","type":"rest"}]`},
	{"pv-former-base/mdev.json", "rules", `[".* 0:0 666"]`}, // PVRIMAGE_AUTO_MDEV
	{"pv-former-base/src.json", "docker_config", `{"Entrypoint":["/bin/app"]}`},
	{"pv-stub-image/run.json", "name", `"pv-stub-image"`},
}

// overlayFile is what PV_CONFIG_OVERLAY_DIR has.
const overlayFile = "_config/pv-former-app/etc/former.conf"

// former reads back what bitbake has made of the variables of the former layer.
func former(ctx context.Context, o *Options, machine, _ string) (string, error) {
	var problems []error
	n := 0
	for name, fdt := range map[string]string{"pv-former-device": `"former-b.dtb"`, "pv-former-auto": ""} {
		revision, err := o.made(deployed(machine, name), name+"-revision.pvr.tgz")
		if err != nil {
			return "", err
		}
		trees := []string{"bsp/former-b.dtb"}
		if fdt == "" {
			trees = []string{"bsp/dtbs/vendor/former-a.dtb", "bsp/dtbs/vendor/former-b.dtb"}
		}
		want := append([]wanted{{"bsp/run.json", "fdt", fdt}}, ofFormer...)
		n += len(want) + len(trees)
		if err := revisionHas(ctx, revision, want, trees); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		if err := imageHas(filepath.Join(filepath.Dir(revision), name+"-pv-512MiB.img"), "former.word=1"); err != nil {
			problems = append(problems, fmt.Errorf("%s: PV_BOOT_OEMARGS: %w", name, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return "", fault.Wrap(fault.Goal, err, "reading back what was made")
	}
	return fmt.Sprintf("%d values", n), nil
}

// revisionHas compares the revision in an export.
func revisionHas(ctx context.Context, file string, want []wanted, keys []string) error {
	tmp, err := scratch.New("pv-yocto-")
	if err != nil {
		return err
	}
	defer tmp.Remove()
	store, err := objects.Create(filepath.Join(tmp.Path, "objects"))
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := archive.Import(ctx, f, store, archive.ImportOptions{})
	if err != nil {
		return err
	}
	var problems []error
	for _, w := range want {
		text, _ := st.Get(w.key)
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", w.key, err))
			continue
		}
		if got := string(members[w.member]); got != w.text {
			problems = append(problems, fmt.Errorf("%s: %s is %s, want %s", w.key, w.member, got, w.text))
		}
	}
	for _, key := range append(keys, overlayFile) {
		if _, ok := st.Object(key); !ok {
			problems = append(problems, fmt.Errorf("%s is not there", key))
		}
	}
	if sum, ok := st.Object("pv-former-app/root.squashfs"); ok {
		problems = append(problems, squashed(filepath.Join(tmp.Path, "objects", sum)))
	}
	return errors.Join(problems...)
}

// squashed looks whether a file system is what PVR_FORMAT_OPTS says: zstd, and blocks of 128 KiB.
func squashed(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	image, err := squashfs.Open(f)
	if err != nil {
		return err
	}
	if got := image.BlockSize(); got != 128<<10 || image.Compression() != squashfs.Zstd {
		return fmt.Errorf("pv-former-app/root.squashfs has blocks of %d bytes and compression %v; want %d and zstd", got, image.Compression(), 128<<10)
	}
	return nil
}

// bootEnd bounds the part of an image that has its boot partition, in bytes.
const bootEnd = 96 << 20

// imageHas looks for a text in the boot partition of an image.
func imageHas(file, text string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, bootEnd))
	if err != nil {
		return err
	}
	if !bytes.Contains(head, []byte(text)) {
		return fmt.Errorf("%s has no %q in the first %d MiB", file, strings.TrimSpace(text), bootEnd>>20)
	}
	return nil
}

package yocto

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
)

// pseudoProgram is that of Debian's package pseudo. The recipe of OpenEmbedded-Core has to be
// downloaded.
const pseudoProgram = "/usr/bin/pseudo"

// pseudoLibrary returns the directory of its library, "" when it is not installed.
func pseudoLibrary() string {
	if _, err := os.Stat(pseudoProgram); err != nil {
		return ""
	}
	found, err := filepath.Glob("/usr/lib/*/pseudo/libpseudo.so")
	if err != nil || len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[0])
}

func withPseudo(*Options) string {
	if pseudoLibrary() == "" {
		return "it needs " + pseudoProgram + ", of Debian's package pseudo"
	}
	return ""
}

// pseudo returns the configuration with which this machine's pseudo is taken (bitbake.conf has that
// of the recipe).
func pseudo() []string {
	library := pseudoLibrary()
	if library == "" {
		return nil
	}
	return []string{
		`FAKEROOTCMD = "` + pseudoProgram + `"`,
		// That of wrynose is told which paths it sees, which Debian's does not know.
		`PV_TEST_UNSEEN = "/usr/,/etc/,/dev/,/run/,/proc/,${T},${TMPDIR}/stamps,${TMPDIR}/buildstats,${TMPDIR}/deploy,${WORKDIR}/recipe-sysroot,${WORKDIR}/pv-export"`,
		`PV_TEST_PSEUDO = "PSEUDO_BINDIR=/usr/bin PSEUDO_LIBDIR=` + library + ` PSEUDO_PREFIX=/usr ` +
			`PSEUDO_IGNORE_PATHS=${@oe.path.canonicalize(d.getVar('PV_TEST_UNSEEN' if d.getVar('PSEUDO_INCLUDE_PATHS') else 'PSEUDO_IGNORE_PATHS'))}"`,
		`FAKEROOTBASEENV = "${PV_TEST_PSEUDO} PSEUDO_DISABLED=1 PYTHONDONTWRITEBYTECODE=1"`,
		`FAKEROOTENV = "${PV_TEST_PSEUDO} PSEUDO_LOCALSTATEDIR=${PSEUDO_LOCALSTATEDIR} PSEUDO_PASSWD=${PSEUDO_PASSWD} PSEUDO_NOSYMLINKEXP=1 PSEUDO_DISABLED=0"`,
	}
}

// ownersWanted are lines of unsquashfs, without sizes and times, of what the recipe pv-stub-owners has made.
var ownersWanted = []string{
	"-rwsr-xr-x 0/0 squashfs-root/bin/app", "crw------- 0/0 squashfs-root/dev/console", "drwxr-xr-x 1000/1001 squashfs-root/var", "drwxr-xr-x 0/0 squashfs-root/etc",
}

// owners reads the container of the recipe pv-stub-owners.
func owners(ctx context.Context, o *Options, _, _ string) (string, error) {
	if _, err := exec.LookPath("unsquashfs"); err != nil {
		return "", fault.New(fault.Missing, "reading a container: unsquashfs is not installed; type: apt-get install squashfs-tools")
	}
	// The task lies before those that deploy it.
	file, err := o.made("work/*/pv-stub-owners/*/deploy-pv-stub-owners-image-complete/pv-stub-owners.pvrexport.tgz")
	if err != nil {
		return "", err
	}
	dir, err := scratch.New("pv-yocto-")
	if err != nil {
		return "", err
	}
	defer dir.Remove()
	root, err := rootOf(ctx, file, "pv-stub-owners", dir.Path)
	if err != nil {
		return "", fault.Wrap(fault.Goal, err, "reading a container")
	}
	text, err := exec.CommandContext(ctx, "unsquashfs", "-lln", root).CombinedOutput()
	if err != nil {
		return "", fault.New(fault.Goal, "reading a container: %w: %s", err, text)
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if w := strings.Fields(line); len(w) > 3 {
			have[w[0]+" "+w[1]+" "+w[len(w)-1]] = true
		}
	}
	for _, w := range ownersWanted {
		if !have[w] {
			return "", fault.New(fault.Goal, "the container has no %q:\n%s", w, text)
		}
	}
	return strings.Join(ownersWanted, ", "), nil
}

// rootOf unpacks an export into a directory and returns the root file system of a container.
func rootOf(ctx context.Context, file, name, dir string) (string, error) {
	store, err := objects.Create(filepath.Join(dir, "objects"))
	if err != nil {
		return "", err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := archive.Import(ctx, f, store, archive.ImportOptions{})
	if err != nil {
		return "", err
	}
	sum, ok := st.Object(name + "/root.squashfs")
	if !ok {
		return "", fault.New(fault.Goal, "%s has no %s/root.squashfs", file, name)
	}
	return filepath.Join(dir, "objects", sum), nil
}

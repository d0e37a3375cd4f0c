package vulns

import (
	"testing"

	"github.com/pantavisor/pantavisor/sbom"
)

func TestWeigh(t *testing.T) {
	t.Parallel()
	code := codeOf(sbom.Package{
		PURL: "pkg:deb/debian/linux-image@1?arch=arm64",
		Paths: []string{
			"kernel/drivers/net/virtio_net.ko.xz", "lib/modules/6.1.0/kernel/sound/usb/snd-usb-audio.ko.zst", "kernel/fs/ext4/ext4.ko", "kernel/net/sctp/sctp.ko.gz",
			"kernel/drivers/net/ethernet/intel/igb/igb.ko", "updates/dkms/other.ko", "kernel/notes.txt",
		},
	})
	for _, c := range []struct {
		want  presence
		files []string
	}{
		{present, []string{"drivers/net/virtio_net.c"}},
		{present, []string{"sound/usb/snd_usb_audio.c"}},
		{present, []string{"fs/ext4/inode.c"}},
		{present, []string{"net/sctp/socket.c", "arch/x86/kvm/x86.c"}},
		{present, []string{"drivers/net/ethernet/intel/igb/igb_main.c"}}, // the directory's module
		{present, []string{"mm/slub.c"}},
		{present, []string{"kernel/sched/fair.c"}},
		{present, []string{"arch/arm64/kernel/setup.c"}},
		{absent, []string{"arch/x86/kernel/setup.c"}},
		{absent, []string{"arch/x86/kvm/x86.c", "tools/perf/perf.c"}},
		{unsure, []string{"arch/x86/kvm/x86.c", "drivers/gpu/drm/x.c"}},
		{unsure, []string{"drivers/net/veth.c"}},
		{unsure, []string{"include/linux/skbuff.h"}},
		{unsure, []string{"arch/arm64/kvm/arm.c"}},
		{unsure, []string{"other.c"}},
		{unsure, nil},
	} {
		if got, _ := code.weigh(c.files); got != c.want {
			t.Errorf("%q: %v, want %v", c.files, got, c.want)
		}
	}
	// Nobody says for what the kernel is.
	if got, _ := codeOf(sbom.Package{}).weigh([]string{"arch/x86/kernel/setup.c"}); got != present {
		t.Errorf("without an architecture: %v", got)
	}
}

func TestKernelRecords(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"4.13.1": "", "4.14": "affected 6.1.155", "5.10.251": "affected 6.1.155", "6.1.154": "affected 6.1.155", "6.1.155": "", "6.1.200": "", "6.2.3": "affected 6.12.9", "6.12.9": "", "6.12.8": "affected 6.12.9",
		"6.13": "", "6.13-rc2": "affected 6.13", "7.0": "", "": "unknown ", "strange": "unknown ",
	} {
		cpe := "cpe:2.3:o:linux:linux_kernel:" + version + ":*:*:*:*:*:*:*"
		if version == "" {
			cpe = "cpe:2.3:o:linux:linux_kernel:*:*:*:*:*:*:*:*"
		}
		s := New(Part{Name: "bsp", Document: bill("bsp", sbom.Package{Name: "linux", Version: version, CPE: cpe, Paths: []string{"kernel/fs/ext4/ext4.ko"}})})
		dir := put(t, map[string]string{"a.json": cveText("CVE-2024-1", "fs/ext4/inode.c")})
		if err := s.Load(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, f := range s.Report(false).Findings {
			got = string(f.State) + " " + f.FixedIn
		}
		if got != want {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}

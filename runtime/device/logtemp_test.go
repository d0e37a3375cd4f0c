package device

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/config"
)

// TestLogsInMemory runs a device whose logs are in a tmpfs.
func TestLogsInMemory(t *testing.T) {
	d := newDevice(t)
	d.cfg.Apply(config.Env, config.StorageLogtempSize, "2m")
	d.add("app", "app", "/sbin/init wait", nil)
	dir := d.dir + "/storage/logs"
	d.boot()
	d.await(map[string]string{"app": "STARTED"})
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	if size := st.Blocks * uint64(st.Bsize); err != nil || st.Type != unix.TMPFS_MAGIC || size != 2<<20 {
		t.Errorf("%s is of type %x with %d blocks of %d bytes: %v", dir, st.Type, st.Blocks, st.Bsize, err)
	}
	if _, err := os.Stat(dir + "/0/pantavisor/pantavisor.log"); err != nil {
		t.Error(err)
	}
	d.off()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("after the end the directory has %v: %v", left, err)
	}
}

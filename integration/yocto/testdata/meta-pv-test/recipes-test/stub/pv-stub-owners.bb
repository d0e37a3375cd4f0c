SUMMARY = "An image with owners and devices, which pseudo shows to what it runs"
LICENSE = "MIT"

SRC_URI = "file://config.json"
PV_STUB_FAKEROOT = "1"

IMAGE_FSTYPES = "pvrexport"
inherit image pv-export pv-stub-rootfs

do_rootfs[postfuncs] += "stub_owners"
python stub_owners() {
    import stat
    root = d.getVar('IMAGE_ROOTFS')
    os.chown(root + '/bin/app', 0, 0)
    os.chmod(root + '/bin/app', 0o4755)
    os.chown(root + '/var', 1000, 1001)
    os.mknod(root + '/dev/console', stat.S_IFCHR | 0o600, os.makedev(5, 1))
}

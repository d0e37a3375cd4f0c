SUMMARY = "Device trees without a kernel: two, of which PV_INITIAL_DTB names one"
LICENSE = "CLOSED"
INHIBIT_DEFAULT_DEPS = "1"
EXCLUDE_FROM_WORLD = "1"
PACKAGE_ARCH = "${MACHINE_ARCH}"
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"

inherit deploy nopackages

deltask do_configure
deltask do_install
deltask do_populate_sysroot

# An empty tree: header, map of reserved memory, one node, no strings.
python do_compile() {
    import struct
    tree = struct.pack('>4I', 1, 0, 2, 9)
    size = 40 + 16 + len(tree)
    head = struct.pack('>10I', 0xd00dfeed, size, 56, size, 40, 17, 16, 0, 0, len(tree))
    bb.utils.mkdirhier(d.getVar('B'))
    with open(d.getVar('B') + '/tree.dtb', 'wb') as f:
        f.write(head + bytes(16) + tree)
}
do_deploy() {
    install -m 0644 ${B}/tree.dtb ${DEPLOYDIR}/former-a.dtb
    install -m 0644 ${B}/tree.dtb ${DEPLOYDIR}/former-b.dtb
}
addtask compile after do_unpack
addtask deploy after do_compile before do_build

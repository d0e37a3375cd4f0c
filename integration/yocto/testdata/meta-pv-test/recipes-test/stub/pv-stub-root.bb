SUMMARY = "A stand-in for an image: deploys a root file system without a toolchain"
LICENSE = "CLOSED"
INHIBIT_DEFAULT_DEPS = "1"
EXCLUDE_FROM_WORLD = "1"
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"

inherit deploy nopackages image-artifact-names

deltask do_configure
deltask do_install
deltask do_populate_sysroot

do_compile() {
    mkdir -p ${B}/tree/bin ${B}/tree/etc
    printf '#!/bin/sh\n' > ${B}/tree/bin/app
    chmod 755 ${B}/tree/bin/app
    echo "root:x:0:0::/:/bin/sh" > ${B}/tree/etc/passwd
    tar --sort=name --owner=0 --group=0 --mtime=@0 -C ${B}/tree -czf ${B}/root.tar.gz .
}
do_deploy() {
    install -m 0644 ${B}/root.tar.gz ${DEPLOYDIR}/${IMAGE_LINK_NAME}.tar.gz
}
addtask compile after do_unpack
addtask deploy after do_compile before do_build

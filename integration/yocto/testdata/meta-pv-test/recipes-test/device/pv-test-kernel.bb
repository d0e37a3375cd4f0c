# PV_TEST_PARTS is a directory with kernel/image and kernel/modules/lib/modules/RELEASE.
SUMMARY = "A finished kernel of another distribution, deployed under the names of the machine's"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/GPL-2.0-only;md5=801f80980d171dd6425610833a22dbe6"
INHIBIT_DEFAULT_DEPS = "1"
EXCLUDE_FROM_WORLD = "1"
PACKAGE_ARCH = "${MACHINE_ARCH}"
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"

inherit deploy nopackages kernel-artifact-names

deltask do_configure
deltask do_install
deltask do_populate_sysroot

PV_TEST_PARTS ??= ""
python () {
    if not d.getVar('PV_TEST_PARTS'):
        raise bb.parse.SkipRecipe('PV_TEST_PARTS is not set')
}

do_compile[cleandirs] = "${B}"
do_compile[file-checksums] += "${PV_TEST_PARTS}/kernel/image:True ${PV_TEST_PARTS}/kernel/modules:True"
do_compile() {
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@${SOURCE_DATE_EPOCH} -C ${PV_TEST_PARTS}/kernel/modules -cf - lib/modules | gzip -1n > ${B}/modules.tgz
}

# The names of kernel.bbclass: files with the version, and links without it.
do_deploy() {
    install -m 0644 ${PV_TEST_PARTS}/kernel/image ${DEPLOYDIR}/${KERNEL_IMAGETYPE}-${KERNEL_IMAGE_NAME}${KERNEL_IMAGE_BIN_EXT}
    ln -sf ${KERNEL_IMAGETYPE}-${KERNEL_IMAGE_NAME}${KERNEL_IMAGE_BIN_EXT} ${DEPLOYDIR}/${KERNEL_IMAGETYPE}-${KERNEL_IMAGE_LINK_NAME}${KERNEL_IMAGE_BIN_EXT}
    ln -sf ${KERNEL_IMAGETYPE}-${KERNEL_IMAGE_NAME}${KERNEL_IMAGE_BIN_EXT} ${DEPLOYDIR}/${KERNEL_IMAGETYPE}
    install -m 0644 ${B}/modules.tgz ${DEPLOYDIR}/modules-${MODULE_TARBALL_NAME}.tgz
    ln -sf modules-${MODULE_TARBALL_NAME}.tgz ${DEPLOYDIR}/modules-${MODULE_TARBALL_LINK_NAME}.tgz
}
addtask compile after do_unpack
addtask deploy after do_compile before do_build

SUMMARY = "A stand-in for a kernel: deploys a file under the names of one"
LICENSE = "CLOSED"
INHIBIT_DEFAULT_DEPS = "1"
EXCLUDE_FROM_WORLD = "1"
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"

inherit deploy nopackages kernel-artifact-names

deltask do_configure
deltask do_install
deltask do_populate_sysroot

do_compile() {
    printf 'not a kernel' > ${B}/kernel
}
# As multi-configuration builds with several kernels set it.
KERNEL_DEPLOYSUBDIR = "stub"
do_deploy() {
    install -D -m 0644 ${B}/kernel ${DEPLOYDIR}/${KERNEL_DEPLOYSUBDIR}/${KERNEL_IMAGETYPE}-${KERNEL_IMAGE_LINK_NAME}${KERNEL_IMAGE_BIN_EXT}
}
addtask compile after do_unpack
addtask deploy after do_compile before do_build

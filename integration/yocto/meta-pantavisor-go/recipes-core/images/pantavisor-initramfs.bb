# For kernels that bundle an initramfs, INITRAMFS_IMAGE = "pantavisor-initramfs". A bundle does not
# need it: pvcompose makes the initrd from the runtime and the modules that a board needs early.
SUMMARY = "Initramfs with Pantavisor's runtime"
LICENSE = "MIT"

PACKAGE_INSTALL = "pantavisor"
IMAGE_INSTALL = ""
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
IMAGE_FSTYPES = "${INITRAMFS_FSTYPES}"
IMAGE_NAME_SUFFIX ?= ""
IMAGE_ROOTFS_SIZE = "8192"
IMAGE_ROOTFS_EXTRA_SPACE = "0"

EXCLUDE_FROM_WORLD = "1"

inherit image

python () {
    if not d.getVar('PANTAVISOR_SOURCE'):
        raise bb.parse.SkipRecipe("PANTAVISOR_SOURCE is not set: give it the URI of pantavisor-VERSION-vendored.tar.gz (docs/yocto.md)")
}

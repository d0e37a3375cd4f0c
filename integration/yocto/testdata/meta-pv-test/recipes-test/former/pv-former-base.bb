SUMMARY = "The image that PVROOT_IMAGE_BSP names, with the class for images of a machine"
LICENSE = "MIT"

SRC_URI = "file://config.json"

IMAGE_FSTYPES = ""
inherit image image-pvrexport pv-stub-rootfs

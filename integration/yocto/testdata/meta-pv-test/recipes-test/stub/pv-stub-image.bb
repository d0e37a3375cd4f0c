SUMMARY = "An image whose root file system needs no toolchain, for the class pv-export"
LICENSE = "MIT"

SRC_URI = "file://pv-stub-image.args.json file://pv-stub-image.config.json"
PVR_APP_ADD_GROUP = "app"

inherit image pv-export pv-stub-rootfs

IMAGE_FSTYPES = "pvrexport"

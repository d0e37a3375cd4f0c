SUMMARY = "Example of a container: busybox with its shell"

IMAGE_INSTALL = "busybox base-files base-passwd"
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
PACKAGE_INSTALL = "${IMAGE_INSTALL}"
IMAGE_FSTYPES = "pvrexport"
EXCLUDE_FROM_WORLD = "1"

SRC_URI = "file://pv-example-busybox.args.json file://pv-example-busybox.config.json"
PVR_APP_ADD_GROUP = "app"

inherit image pv-export

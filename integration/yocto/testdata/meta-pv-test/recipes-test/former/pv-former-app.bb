SUMMARY = "A container as recipes of the former layer describe it: all variables and all files"
LICENSE = "MIT"

SRC_URI = " \
    file://${BPN}.args.json \
    file://${BPN}.config.json \
    file://${BPN}.services.json \
    file://${BPN}.mdev.json \
    file://${BPN}.network.json \
    file://former-overlay \
"
PVR_APP_ADD_GROUP = "platform"
PVR_APP_ADD_ROLES = "mgmt nobody"
PVR_APP_ADD_EXTRA_ARGS = "  --volume ovl:/var:permanent --volume ovl:/etc:boot --restart-policy system --arg PV_DEBUG_MODE=yes"
PVR_FORMAT_OPTS = "-comp zstd -b 128K -Xcompression-level 19 -e usr/share/doc"
PV_CONFIG_OVERLAY_DIR = "former-overlay"

IMAGE_FSTYPES = ""
inherit image container-pvrexport pv-stub-rootfs

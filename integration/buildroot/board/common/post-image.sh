#!/bin/sh
# Makes what this build is for: the image and exports of a BSP, or a container.
# external.mk puts it behind the scripts of BR2_ROOTFS_POST_IMAGE_SCRIPT and
# exports PANTAVISOR_*; Buildroot sets BUILD_DIR and BINARIES_DIR.
set -eu

work=$BUILD_DIR/pantavisor-images
mkdir -p "$work"
# shellcheck disable=SC2086 # both are lists of words
"$PANTAVISOR_PVCOMPOSE" from-buildroot $PANTAVISOR_BUILDS $PANTAVISOR_OPTIONS --out "$work/inputs.json"
"$PANTAVISOR_PVCOMPOSE" build --inputs "$work/inputs.json" --out "$BINARIES_DIR/pantavisor" --cache "$work/cache"

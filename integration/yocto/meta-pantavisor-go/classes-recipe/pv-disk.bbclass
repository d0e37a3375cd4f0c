# A recipe that makes a medium to flash, in place of one by wic: a bundle with an image and its
# block map. The layout is in the partial list, PV_BUNDLE_WITH, or that of a wks file:
#
#   PV_BUNDLE_WKS = "${THISDIR}/files/gateway.wks"
PV_BUNDLE_OUTPUTS ?= "image revision"

inherit pv-bundle

python () {
    if not d.getVar('PV_BUNDLE_WITH'):
        bb.fatal('%s: PV_BUNDLE_WITH is not set: a medium needs at least its bootloader.type, in a partial list (docs/yocto.md)' % d.getVar('PN'))
}

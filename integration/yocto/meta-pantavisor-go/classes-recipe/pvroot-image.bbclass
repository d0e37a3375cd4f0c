# The storage of a device as the former layer's recipes describe it, by pv-disk.
#
# PVROOT_CONTAINERS were installed at the first boot; here they are in revision 0 too, so that
# the device has the same containers, one boot earlier.
PVROOT_CONTAINERS_CORE ??= ""
PVROOT_CONTAINERS ??= ""
PVROOT_IMAGE_BSP ??= ""
PVROOT_IMAGE ??= ""

PV_BUNDLE_EXPORTS = "${PVROOT_CONTAINERS_CORE} ${PVROOT_CONTAINERS} ${@d.getVar('PVROOT_IMAGE_BSP') if d.getVar('PVROOT_IMAGE') == 'yes' else ''}"

inherit pv-disk

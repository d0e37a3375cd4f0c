SUMMARY = "A device as recipes of the former layer describe it"

PANTAVISOR_FEATURES = "dm-crypt dm-verity pvcontrol squash-zstd xconnect"
PVROOT_CONTAINERS_CORE = "pv-former-app"
PVROOT_CONTAINERS = "pv-stub-image"
PVROOT_IMAGE_BSP = "pv-former-base"
PVROOT_IMAGE = "yes"
PV_BOOT_OEMARGS = "console=ttyAMA0 former.word=1"
KERNEL_DEVICETREE = "vendor/former-a.dtb vendor/former-b.dtb"
PV_INITIAL_DTB = "former-b.dtb"

PV_BUNDLE_KERNEL = "pv-test-kernel"
PV_BUNDLE_DEPENDS = "pv-former-trees:do_deploy"
PV_BUNDLE_WITH = "${THISDIR}/files/former.yaml"
PV_BUNDLE_OUTPUTS = "image export revision"

inherit pvroot-image

python () {
    if not d.getVar('PV_TEST_PARTS'):
        raise bb.parse.SkipRecipe('PV_TEST_PARTS is not set')
}

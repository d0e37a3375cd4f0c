SUMMARY = "A whole device: kernel, runtime, two containers, and a medium that boots"

PV_BUNDLE_KERNEL = "pv-test-kernel"
PV_BUNDLE_EXPORTS = "pv-network pv-stub-image"
PV_BUNDLE_OUTPUTS = "image export revision"
# Of machines whose boot loader has a script that pvcompose makes.
PV_BOOT_OEMARGS:qemuarm64 = "console=ttyAMA0,115200 panic=5"
PV_TEST_PARTS ??= ""
PV_BUNDLE_WITH = "${PV_TEST_PARTS}/with/partial.json"

inherit pv-disk

python () {
    if not d.getVar('PV_TEST_PARTS'):
        raise bb.parse.SkipRecipe('PV_TEST_PARTS is not set')
}

SUMMARY = "A whole revision with the runtime for the machine, and a kernel that is none"

PV_BUNDLE_KERNEL = "pv-stub-kernel"
PV_BUNDLE_MODULES = "0"
KERNEL_DEPLOYSUBDIR = "stub"
PV_BUNDLE_OUTPUTS = "export revision"
PV_BUNDLE_WITH = "${THISDIR}/files/partial.yaml"
PV_BUNDLE_IMAGES = "pv-stub-root:tar.gz"
PV_PART_pv-stub-root[task] = "do_deploy"
PV_PART_pv-stub-root[group] = "app"
SRC_URI = "file://pv-stub-root.config.json"

inherit pv-bundle

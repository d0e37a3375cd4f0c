SUMMARY = "A bundle of a container alone, which needs no toolchain"

PV_BUNDLE_KERNEL = ""
PV_BUNDLE_OUTPUTS = "containers"
PV_BUNDLE_IMAGES = "pv-stub-root:tar.gz"
PV_PART_pv-stub-root[task] = "do_deploy"
PV_PART_pv-stub-root[group] = "app"
SRC_URI = "file://pv-stub-root.config.json"

inherit pv-bundle

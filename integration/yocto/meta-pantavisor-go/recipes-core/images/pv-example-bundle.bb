SUMMARY = "Example of a bundle: the machine's kernel and a container with busybox"

PV_BUNDLE_EXPORTS = "pv-example-busybox"
PV_BUNDLE_OUTPUTS = "export revision"

inherit pv-bundle

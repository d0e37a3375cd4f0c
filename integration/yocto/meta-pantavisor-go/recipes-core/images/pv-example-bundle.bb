SUMMARY = "Example of a bundle: the machine's kernel, its network, and a container with busybox"

PV_BUNDLE_EXPORTS = "pv-network pv-example-busybox"
PV_BUNDLE_OUTPUTS = "export revision"

inherit pv-bundle

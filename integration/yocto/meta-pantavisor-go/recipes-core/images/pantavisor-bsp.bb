SUMMARY = "BSP of a machine: kernel, modules, device trees and initrd as one part of a revision"

PV_BUNDLE_NAME = "pantavisor-bsp-${MACHINE}"
PV_BUNDLE_OUTPUTS = "export"

inherit pv-bundle

# The name that the former layer has for it.
do_deploy:append() {
    ln -sf ${PN}/${PV_BUNDLE_NAME}.pvr.tgz ${DEPLOYDIR}/${PV_BUNDLE_NAME}.pvrexport.tgz
}

# The container "network" of Pantavisor's own builds. It needs Go alone, no toolchain of the target.
SUMMARY = "Container: Ethernet by DHCP or fixed address, name servers, addresses in device metadata"

inherit pv-source pv-composer deploy nopackages
require pv-network-licenses.inc

SRC_URI:append = " file://pv-network.args.json file://pv-network.config.json"
PVR_APP_ADD_EXTRA_ARGS = ""
PACKAGE_ARCH = "${MACHINE_ARCH}"
COMPATIBLE_HOST = "(x86_64|aarch64|arm|riscv64|mips|mipsel).*-linux.*"

deltask do_install
deltask do_populate_sysroot

do_compile() {
    GOOS=linux GOARCH=${TARGET_GOARCH} GOARM=${TARGET_GOARM} GOMIPS=${TARGET_GOMIPS} pv_go_build ${B}/tree/sbin/pv-network ./cmd/pv-network
    cd ${B}/tree
    mkdir -p dev etc lib/firmware lib/modules pantavisor proc run sys tmp var/run var/tmp
    chmod 1777 tmp var/tmp
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf ${B}/root.tar .
}

python do_compose() {
    b = d.getVar('B')
    todo = pv_list(d, d.getVar('PN'))
    todo.update({'outputs': ['containers'], 'deploy': b, 'containers': [pv_container(d, d.getVar('PN'), b + '/root.tar', 'tar', {})]})
    pv_compose(d, todo, b + '/compose')
}
do_compose[depends] += "${PV_COMPOSER_DEPENDS}"
do_compose[vardeps] += "${PV_LIST_VARS} ${PV_CONTAINER_VARS}"
addtask compose after do_compile

do_deploy() {
    install -m 0644 ${B}/compose/out/containers/${PN}.pvr.tgz ${DEPLOYDIR}/${PN}.pvrexport.tgz
}
addtask deploy after do_compose before do_build

SUMMARY = "Pantavisor's runtime: process 1 and the engine of containers"

inherit pv-source deploy
require pantavisor-licenses.inc

# One static binary: no C compiler and no library of the target takes part.
do_compile() {
    GOOS=linux GOARCH=${TARGET_GOARCH} GOARM=${TARGET_GOARM} GOMIPS=${TARGET_GOMIPS} pv_go_build ${B}/pantavisor ./cmd/pantavisor
}

do_install() {
    install -D -m 0755 ${B}/pantavisor ${D}/init
}

do_deploy() {
    install -m 0755 ${B}/pantavisor ${DEPLOYDIR}/${PV_RUNTIME_FILE}
}
addtask deploy after do_compile before do_build

PV_RUNTIME_FILE ?= "pantavisor-${MACHINE}"

FILES:${PN} = "/init"
INSANE_SKIP:${PN} += "already-stripped"
COMPATIBLE_HOST = "(x86_64|aarch64|arm|riscv64|mips|mipsel).*-linux.*"

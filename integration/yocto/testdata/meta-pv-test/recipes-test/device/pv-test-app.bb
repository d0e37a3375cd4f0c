SUMMARY = "The program of the container: static, so that it needs no toolchain"
LICENSE = "CLOSED"
INHIBIT_DEFAULT_DEPS = "1"
EXCLUDE_FROM_WORLD = "1"
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"

SRC_URI = "file://app.go"
inherit deploy nopackages goarch

deltask do_configure
deltask do_install
deltask do_populate_sysroot

PV_SOURCE_DIR = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"
S = "${PV_SOURCE_DIR}"
B = "${WORKDIR}/build"
do_compile[cleandirs] = "${B}"
do_compile() {
    GOOS=linux GOARCH=${TARGET_GOARCH} GOARM=${TARGET_GOARM} CGO_ENABLED=0 GOTOOLCHAIN=local GO111MODULE=off GOCACHE=${B}/go-cache GOPATH=${B}/go \
        ${PANTAVISOR_GOROOT}/bin/go build -trimpath -ldflags "-s -w -buildid=" -o ${B}/app ${PV_SOURCE_DIR}/app.go
}
do_deploy() {
    install -m 0755 ${B}/app ${DEPLOYDIR}/pv-test-app-${MACHINE}
}
addtask compile after do_unpack
addtask deploy after do_compile before do_build

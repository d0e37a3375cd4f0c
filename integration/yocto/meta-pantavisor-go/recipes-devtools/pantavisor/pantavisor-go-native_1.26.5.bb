# Go for Pantavisor's recipes under a name of its own: a series keeps the Go that it has, which
# scarthgap has too old a one of. It is the archive that the Go project publishes.
SUMMARY = "Go for Pantavisor's recipes"
HOMEPAGE = "https://go.dev"
LICENSE = "BSD-3-Clause"
LIC_FILES_CHKSUM = "file://LICENSE;md5=7998cb338f82d15c0eff93b7004d272a"

SRC_URI = "https://dl.google.com/go/go${PV}.${BUILD_GOOS}-${BUILD_GOARCH}.tar.gz;name=go_${BUILD_GOTUPLE}"
SRC_URI[go_linux_amd64.sha256sum] = "5c2c3b16caefa1d968a94c1daca04a7ca301a496d9b086e17ad77bb81393f053"
SRC_URI[go_linux_arm64.sha256sum] = "fe4789e92b1f33358680864bbe8704289e7bb5fc207d80623c308935bd696d49"

S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/go"

EXCLUDE_FROM_WORLD = "1"
INHIBIT_DEFAULT_DEPS = "1"
# There are no patches, and so no tool for them.
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"
INHIBIT_SYSROOT_STRIP = "1"

inherit goarch native

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${libdir}
    cp -R --no-dereference --preserve=mode,links,timestamps ${S} ${D}${libdir}/pantavisor-go
    rm -rf ${D}${libdir}/pantavisor-go/test ${D}${libdir}/pantavisor-go/api ${D}${libdir}/pantavisor-go/doc
    find ${D}${libdir}/pantavisor-go -depth -type d -name testdata -exec rm -rf {} +
}

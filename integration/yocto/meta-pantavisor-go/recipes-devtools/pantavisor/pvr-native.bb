SUMMARY = "Tool for Pantavisor's revisions: clone, commit, post, sign"

inherit pv-source native
require pvr-licenses.inc

do_compile() {
    unset GOOS GOARCH GOARM GOMIPS
    pv_go_build ${B}/pvr ./cmd/pvr
}

do_install() {
    install -D -m 0755 ${B}/pvr ${D}${bindir}/pvr
}

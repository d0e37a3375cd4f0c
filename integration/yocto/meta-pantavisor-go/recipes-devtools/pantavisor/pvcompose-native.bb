SUMMARY = "Composer of Pantavisor's revisions and images"

inherit pv-source native
require pvcompose-licenses.inc

do_compile() {
    unset GOOS GOARCH GOARM GOMIPS
    pv_go_build ${B}/pvcompose ./cmd/pvcompose
}

do_install() {
    install -D -m 0755 ${B}/pvcompose ${D}${bindir}/pvcompose
}

# The source of Pantavisor for recipes: a tarball with its Go modules, as "mage dist" makes it,
# so that nothing is downloaded while it is built.
#
# PANTAVISOR_SOURCE is a URI of pantavisor-VERSION-vendored.tar.gz, PANTAVISOR_SOURCE_SHA256 its
# digest (not needed for file://), PANTAVISOR_VERSION its version.

PANTAVISOR_SOURCE ??= ""
PANTAVISOR_SOURCE_SHA256 ??= ""
PANTAVISOR_VERSION ??= "0"

# The Go that builds it: that of a recipe, or with PANTAVISOR_GOROOT one of the build machine.
PANTAVISOR_GO ??= "pantavisor-go-native"
PANTAVISOR_GOROOT ??= ""

SUMMARY ??= "Pantavisor"
HOMEPAGE = "https://github.com/pantavisor/pantavisor"
LICENSE ?= "MIT"
LIC_FILES_CHKSUM ?= "file://LICENSE;md5=965a64a6942664e251f84fff9fcd6a0c"

PV = "${PANTAVISOR_VERSION}"
SRC_URI = "${PANTAVISOR_SOURCE};name=pantavisor"
SRC_URI[pantavisor.sha256sum] = "${PANTAVISOR_SOURCE_SHA256}"
# The directory of the tarball; WORKDIR in scarthgap, UNPACKDIR in later series.
PV_UNPACKED = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"
S = "${PV_UNPACKED}/pantavisor-${PANTAVISOR_VERSION}"

EXCLUDE_FROM_WORLD = "1"
INHIBIT_DEFAULT_DEPS = "1"
# There are no patches, and so no tool for them.
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"

inherit goarch

python () {
    if not d.getVar('PANTAVISOR_SOURCE'):
        raise bb.parse.SkipRecipe("PANTAVISOR_SOURCE is not set: give it the URI of pantavisor-VERSION-vendored.tar.gz (docs/yocto.md)")
    if not d.getVar('PANTAVISOR_GOROOT'):
        d.appendVarFlag('do_compile', 'depends', ' %s:do_populate_sysroot' % d.getVar('PANTAVISOR_GO'))
}

PV_GOROOT = "${@d.getVar('PANTAVISOR_GOROOT') or d.getVar('STAGING_LIBDIR_NATIVE') + ('/go' if d.getVar('PANTAVISOR_GO') == 'go-native' else '/pantavisor-go')}"

# pv_go_build OUTPUT PACKAGE
pv_go_build() {
    cd ${S}
    GOROOT="${PV_GOROOT}" GOCACHE="${B}/go-cache" GOPATH="${B}/go" GOFLAGS="-mod=vendor" GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local \
        CGO_ENABLED=0 "${PV_GOROOT}/bin/go" build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.release=${PANTAVISOR_VERSION}" -o "$1" "$2"
}

do_compile[cleandirs] = "${B}"
B = "${WORKDIR}/build"

# There is nothing to configure, and until the installation no need for what do_configure waits
# for: fakeroot of recipes for a target among it. Go is put into the sysroot by do_compile.
deltask do_configure
addtask compile after do_unpack
addtask install after do_compile do_prepare_recipe_sysroot

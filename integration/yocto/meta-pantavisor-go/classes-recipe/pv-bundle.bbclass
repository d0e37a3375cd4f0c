# A recipe that makes one revision, and a medium with it, from what other recipes have deployed.
#
#   inherit pv-bundle
#   PV_BUNDLE_EXPORTS = "network"                # recipes with PN.pvrexport.tgz (pv-export)
#   PV_BUNDLE_IMAGES = "core-image-minimal:tar.xz"   # images, as they are: IMAGE:TYPE
#   PV_BUNDLE_WITH = "${THISDIR}/files/gateway.yaml" # what no recipe knows (docs/yocto.md)
#
# Dependencies and the list of inputs follow from these variables. No name of a file is looked
# for: it is computed from variables, and a flag says it where another recipe has changed it:
#
#   PV_PART_core-image-minimal[file] = "minimal-gateway.tar.xz"
#
# Other flags of PV_PART_RECIPE: task (do_image_complete for images, do_deploy for exports), name,
# group, roles, add, format.

inherit pv-composer deploy nopackages kernel-artifact-names

PV_BUNDLE_NAME ?= "${PN}"
PV_BUNDLE_OUTPUTS ?= "revision"
PV_BUNDLE_EXPORTS ?= ""
PV_BUNDLE_IMAGES ?= ""
# The kernel's recipe, "" for a revision without a BSP or with one in an export.
PV_BUNDLE_KERNEL ?= "virtual/kernel"
PV_BUNDLE_MODULES ?= "1"
# The runtime's recipe and file.
PV_BUNDLE_RUNTIME ?= "pantavisor"
PV_RUNTIME_FILE ?= "pantavisor-${MACHINE}"
# Further dependencies whose files the partial list names, as deploy:FILE: "u-boot:do_deploy".
PV_BUNDLE_DEPENDS ?= ""
PV_BUNDLE_WITH ?= ""
PV_BUNDLE_WKS ?= ""
PV_BUNDLE_SIZE ?= "0"

# As in the former layer: arguments for the kernel, and device trees.
PV_BOOT_OEMARGS ??= ""
PV_INITIAL_DTB ??= ""
PV_UBOOT_AUTOFDT ??= ""
PV_UBOOT_FLATFDT ??= ""
# Modules that the initrd has.
PV_EARLY_MODULES ??= ""

LICENSE ?= "MIT"
LIC_FILES_CHKSUM ?= "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"
INHIBIT_DEFAULT_DEPS = "1"
# There are no patches, and so no tool for them.
PATCHDEPENDENCY = ""
PATCHDEPENDENCY:remove:class-target = "patch-replacement-native:do_populate_sysroot"
EXCLUDE_FROM_WORLD = "1"
PACKAGE_ARCH = "${MACHINE_ARCH}"

# The results are large and cheap to make: they do not go into the shared state.
SSTATE_SKIP_CREATION = "1"

deltask do_patch
deltask do_configure
deltask do_install
deltask do_populate_sysroot
deltask do_populate_sysroot_setscene
deltask do_deploy_source_date_epoch
deltask do_deploy_source_date_epoch_setscene

# Nothing is unpacked but side files.
S = "${PV_SIDE_DIR}"
B = "${WORKDIR}/bundle"
do_compile[cleandirs] = "${B}"
do_compile[depends] += "${PV_COMPOSER_DEPENDS} ${PV_BUNDLE_DEPENDS}"
do_compile[vardeps] += "${PV_LIST_VARS} ${PV_CONTAINER_VARS} PV_BUNDLE_PARTS PV_BUNDLE_WITH PV_BUNDLE_WKS \
    PV_SIGNING_KEY PV_SIGNING_COMMAND PV_SIGNING_INPUT PV_SIGNING_CHAIN"
do_compile[file-checksums] += "${@pv_bundle_files(d)}"

def pv_bundle_files(d):
    """Files of the recipe outside of SRC_URI, whose changes make the bundle again."""
    names = [d.getVar(v) for v in ('PV_BUNDLE_WITH', 'PV_BUNDLE_WKS', 'PV_SIGNING_KEY', 'PV_SIGNING_CHAIN')]
    # Paths in the partial list begin at its directory: what lies there is an input.
    names += [os.path.dirname(n) for n in names[:1] if n]
    return ' '.join('%s:%s' % (n, os.path.exists(n)) for n in names if n and os.path.isabs(n))

def pv_bundle_parts(d):
    """(kind, recipe, type, flags) of each part."""
    parts = []
    for word in (d.getVar('PV_BUNDLE_IMAGES') or '').split():
        recipe, _, kind = word.partition(':')
        parts.append(('image', recipe, kind or 'tar.xz', d.getVarFlags('PV_PART_' + recipe) or {}))
    for recipe in (d.getVar('PV_BUNDLE_EXPORTS') or '').split():
        parts.append(('export', recipe, '', d.getVarFlags('PV_PART_' + recipe) or {}))
    return parts

PV_BUNDLE_PARTS = "${@repr([(k, r, t, sorted(f.items())) for k, r, t, f in pv_bundle_parts(d)])}"

# PV_MULTICONFIG is where the parts are built: PANTA_MULTICONFIG of the former layer.
PANTA_MULTICONFIG ??= ""
PANTA_DEPLOY_DIR_IMAGE ??= "${DEPLOY_DIR_IMAGE}"

python () {
    mc = d.getVar('PANTA_MULTICONFIG')
    for kind, recipe, _, flags in pv_bundle_parts(d):
        task = flags.get('task') or ('do_image_complete' if kind == 'image' else 'do_deploy')
        if mc:
            d.appendVarFlag('do_compile', 'mcdepends', ' mc:%s:%s:%s:%s' % (d.getVar('BB_CURRENT_MC') or '', mc, recipe, task))
        else:
            d.appendVarFlag('do_compile', 'depends', ' %s:%s' % (recipe, task))
    kernel = d.getVar('PV_BUNDLE_KERNEL')
    if kernel:
        d.appendVarFlag('do_compile', 'depends', ' %s:do_deploy' % kernel)
    if kernel or 'appengine' in d.getVar('PV_BUNDLE_OUTPUTS').split():
        d.appendVarFlag('do_compile', 'depends', ' %s:do_deploy' % d.getVar('PV_BUNDLE_RUNTIME'))
}

def pv_bundle_kernel(d):
    """The names that kernel.bbclass deploys under."""
    sub = d.getVar('KERNEL_DEPLOYSUBDIR') or ''
    kind = d.getVar('KERNEL_IMAGETYPE')
    k = {
        'image': os.path.join(sub, '%s-%s%s' % (kind, d.getVar('KERNEL_IMAGE_LINK_NAME'), d.getVar('KERNEL_IMAGE_BIN_EXT'))),
        'subdir': sub, 'device_trees': d.getVar('KERNEL_DEVICETREE') or '', 'initial': d.getVar('PV_INITIAL_DTB') or '',
        'auto': d.getVar('PV_UBOOT_AUTOFDT') or '', 'flat': d.getVar('PV_UBOOT_FLATFDT') or '',
        'arguments': d.getVar('PV_BOOT_OEMARGS') or '', 'early': d.getVar('PV_EARLY_MODULES') or '',
    }
    if d.getVar('PV_BUNDLE_MODULES') == '1':
        k['modules'] = os.path.join(sub, 'modules-%s.tgz' % d.getVar('MODULE_TARBALL_LINK_NAME'))
    return k

python do_compile() {
    deploy = d.getVar('PANTA_DEPLOY_DIR_IMAGE')
    todo = pv_list(d, d.getVar('PV_BUNDLE_NAME'))
    todo.update({'release': d.getVar('PV'), 'outputs': d.getVar('PV_BUNDLE_OUTPUTS').split(), 'deploy': deploy, 'containers': [], 'exports': []})
    for field, variable in (('with', 'PV_BUNDLE_WITH'), ('layout', 'PV_BUNDLE_WKS'), ('key', 'PV_SIGNING_KEY'), ('command', 'PV_SIGNING_COMMAND'),
                            ('input', 'PV_SIGNING_INPUT'), ('chain', 'PV_SIGNING_CHAIN')):
        if d.getVar(variable):
            todo[field] = d.getVar(variable)
    if int(d.getVar('PV_BUNDLE_SIZE')):
        todo['size'] = int(d.getVar('PV_BUNDLE_SIZE'))
    kernel = d.getVar('PV_BUNDLE_KERNEL')
    if kernel:
        todo['kernel'] = pv_bundle_kernel(d)
    if kernel or 'appengine' in todo['outputs']:
        todo['runtime'] = os.path.join(d.getVar('DEPLOY_DIR_IMAGE'), d.getVar('PV_RUNTIME_FILE'))
    for kind, recipe, form, flags in pv_bundle_parts(d):
        if kind == 'export':
            todo['exports'].append(flags.get('file') or recipe + '.pvrexport.tgz')
            continue
        file = flags.get('file') or '%s%s%s.%s' % (recipe, d.getVar('IMAGE_MACHINE_SUFFIX'), d.getVar('IMAGE_NAME_SUFFIX'), form)
        todo['containers'].append(pv_container(d, recipe, file, form, flags))
    pv_compose(d, todo, d.getVar('B') + '/compose')
}

# Without do_configure nothing else comes between; the composer is put into the sysroot by
# do_compile itself, which depends on it.
addtask compile after do_unpack

# The results in a directory of the recipe's own, with the names that pvcompose gives them; the
# revision also with that of the former layer.
do_deploy() {
    cd ${B}/compose/out
    rm -rf .build
    install -d ${DEPLOYDIR}/${PN}
    cp -R . ${DEPLOYDIR}/${PN}/
    if [ -e ${PV_BUNDLE_NAME}-revision.pvr.tgz ]; then
        ln -sf ${PN}/${PV_BUNDLE_NAME}-revision.pvr.tgz ${DEPLOYDIR}/${PN}.pvrexport.tgz
    fi
}
addtask deploy after do_compile before do_build

# Behind image: the root file system of an image without a package manager and without a toolchain.
IMAGE_INSTALL = ""
PACKAGE_INSTALL = ""
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
EXCLUDE_FROM_WORLD = "1"

do_rootfs[depends] += "pv-test-app:do_deploy"
fakeroot python do_rootfs() {
    root = d.getVar('IMAGE_ROOTFS')
    for name in ('bin', 'dev', 'etc', 'lib/modules/1', 'proc', 'run', 'sys', 'tmp', 'usr/share/doc', 'var'):
        bb.utils.mkdirhier(os.path.join(root, name))
    bb.utils.copyfile('%s/pv-test-app-%s' % (d.getVar('DEPLOY_DIR_IMAGE'), d.getVar('MACHINE')), root + '/bin/app')
    for name in ('lib/modules/1/x.ko', 'usr/share/doc/x'):
        with open(root + '/' + name, 'w') as f:
            f.write('for the machine, or for nobody')
}

# Neither package manager nor kernel: no task waits for a recipe that needs a toolchain. Without
# fakeroot owners are those of the build; with PV_STUB_FAKEROOT it is that of the build machine.
IMAGE_CLASSES = ""
PV_STUB_FAKEROOT ??= "0"
python () {
    d.setVar('DEPENDS', '')
    fakeroot = d.getVar('PV_STUB_FAKEROOT') == '1'
    if not fakeroot:
        d.setVar('do_flush_pseudodb', ':')
    bb.build.deltask('do_patch', d)
    for task in ('rootfs', 'image', 'image_sbom'): # they read what a package manager has installed
        bb.build.deltask('do_create_%s_spdx' % task, d)
        bb.build.deltask('do_create_%s_spdx_setscene' % task, d)
    for task in d.getVar('__BBTASKS', False) or []:
        if not fakeroot:
            d.delVarFlag(task, 'fakeroot')
        for flag in ('recrdeptask', 'rdeptask', 'deptask', 'rdepends'):
            d.delVarFlag(task, flag)
        kept = [w for w in (d.getVarFlag(task, 'depends') or '').split() if w.startswith(('pvcompose-native:', d.getVar('PN') + ':', 'pv-test-app:'))]
        d.setVarFlag(task, 'depends', ' '.join(kept))
}

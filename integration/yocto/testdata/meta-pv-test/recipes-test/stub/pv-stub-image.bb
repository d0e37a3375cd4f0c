SUMMARY = "An image whose root file system needs no toolchain, for the class pv-export"
LICENSE = "MIT"
EXCLUDE_FROM_WORLD = "1"

IMAGE_INSTALL = ""
PACKAGE_INSTALL = ""
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
IMAGE_FSTYPES = "pvrexport"

SRC_URI = "file://pv-stub-image.args.json file://pv-stub-image.config.json"
PVR_APP_ADD_GROUP = "app"

inherit image pv-export

python do_rootfs() {
    root = d.getVar('IMAGE_ROOTFS')
    for name in ('bin', 'lib/modules/1', 'var'):
        bb.utils.mkdirhier(os.path.join(root, name))
    for name in ('bin/app', 'lib/modules/1/x.ko'):
        with open(os.path.join(root, name), 'w') as f:
            f.write('#!/bin/sh\n')
}

# Neither package manager nor fakeroot: files are root's for root alone.
python () {
    d.setVar('DEPENDS', '')
    d.setVar('do_flush_pseudodb', ':')
    for task in d.getVar('__BBTASKS', False) or []:
        d.delVarFlag(task, 'fakeroot')
    for task in ('do_rootfs', 'do_image', 'do_image_qa', 'do_image_pvrexport', 'do_image_complete', 'do_prepare_recipe_sysroot'):
        kept = [w for w in (d.getVarFlag(task, 'depends') or '').split() if w.startswith(('pvcompose-native:', 'pv-stub-image:'))]
        d.setVarFlag(task, 'depends', ' '.join(kept))
        d.delVarFlag(task, 'recrdeptask')
}

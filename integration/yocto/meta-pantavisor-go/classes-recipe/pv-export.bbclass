# An image type: the image's root file system becomes a container, NAME.pvrexport.tgz.
#
#   inherit pv-export
#   IMAGE_FSTYPES += "pvrexport"
#
# The container has the name of the recipe. Beside the image lies IMAGE_LINK_NAME.pvrexport, and
# PN.pvrexport.tgz leads to it. What else it has comes from the variables PVR_APP_ADD_GROUP, _ROLES and
# _EXTRA_ARGS, PVR_FORMAT_OPTS and PV_CONFIG_OVERLAY_DIR, and from files of SRC_URI:
# ${PN}.args.json, .config.json, .services.json, .mdev.json, .network.json; without an .mdev.json
# its programs may use all devices, unless this is 0.
PVRIMAGE_AUTO_MDEV ??= "1"

inherit pv-composer

IMAGE_TYPES += "pvrexport"
PV_EXPORT_WORK = "${WORKDIR}/pv-export"
# For scarthgap; the pseudo of wrynose sees those paths alone that it is told.
PSEUDO_IGNORE_PATHS .= ",${PV_EXPORT_WORK}"

do_image_pvrexport[depends] += "${PV_COMPOSER_DEPENDS}"
do_image_pvrexport[vardeps] += "${PV_LIST_VARS} ${PV_CONTAINER_VARS} PVRIMAGE_AUTO_MDEV"
do_image_pvrexport[prefuncs] += "pv_export_root"
do_image_pvrexport[postfuncs] += "pv_export_link"

# Owners and devices are those that pseudo shows, which a static program does not see: tar does.
pv_export_root() {
    ${IMAGE_CMD_TAR} --sort=name --format=posix --numeric-owner -cf ${PV_EXPORT_WORK}/root.tar \
        --exclude=./lib/modules --exclude=./lib/firmware -C ${IMAGE_ROOTFS} .
}
pv_export_root[cleandirs] = "${PV_EXPORT_WORK}"

IMAGE_CMD:pvrexport = "cp ${PV_EXPORT_WORK}/made.tgz ${IMGDEPLOYDIR}/${IMAGE_NAME}.pvrexport"

do_image_pvrexport[prefuncs] += "pv_export_make"
python pv_export_make() {
    import json
    work = d.getVar('PV_EXPORT_WORK')
    todo = pv_list(d, d.getVar('PN'))
    one = pv_container(d, d.getVar('PN'), work + '/root.tar', 'tar', {})
    if 'mdev' not in one and d.getVar('PVRIMAGE_AUTO_MDEV') == '1':
        one['mdev'] = work + '/mdev.json'
        with open(one['mdev'], 'w') as f:
            json.dump({'rules': ['.* 0:0 666']}, f)
    todo.update({'outputs': ['containers'], 'deploy': work, 'containers': [one]})
    out = pv_compose(d, todo, work + '/compose')
    os.rename('%s/containers/%s.pvr.tgz' % (out, d.getVar('PN')), work + '/made.tgz')
}

python pv_export_link() {
    link = os.path.join(d.getVar('IMGDEPLOYDIR'), d.getVar('PN') + '.pvrexport.tgz')
    if os.path.lexists(link):
        os.remove(link)
    os.symlink(d.getVar('IMAGE_NAME') + '.pvrexport', link)
}

# Side files come with SRC_URI, which images do not fetch by themselves.
python () {
    if d.getVar('SRC_URI'):
        for task in ('do_fetch', 'do_unpack'):
            d.delVarFlag(task, 'noexec')
        if (d.getVar('S', False) or '').endswith('/${BP}'): # the default, which nothing makes
            d.setVar('S', d.getVar('PV_SIDE_DIR'))
        d.appendVarFlag('do_image_pvrexport', 'depends', ' %s:do_unpack' % d.getVar('PN'))
}

# What a bundle depends on, of images as of recipes that deploy an export.
do_deploy[noexec] = "1"
addtask deploy after do_image_complete

# What the other classes have in common: the composer, and the list that it gets.
#
# PV_COMPOSER is the program. Set it to an installed pvcompose, an absolute path, and nothing is
# compiled for it.
PV_COMPOSER ??= "${STAGING_BINDIR_NATIVE}/pvcompose"
PV_COMPOSER_DEPENDS = "${@'' if os.path.isabs(d.getVar('PV_COMPOSER', False) or '') else 'pvcompose-native:do_populate_sysroot'}"

# Features of the former layer; pvcompose says which of them have a meaning.
PANTAVISOR_FEATURES ??= ""

# The time of everything that is composed, in seconds since 1970.
PV_EPOCH ??= "${SOURCE_DATE_EPOCH}"
PV_EPOCH[vardepsexclude] = "SOURCE_DATE_EPOCH"

# Signing: the file with a key, or a program that has one (docs/compose.md). There is no default.
PV_SIGNING_KEY ??= ""
PV_SIGNING_COMMAND ??= ""
PV_SIGNING_INPUT ??= ""
PV_SIGNING_CHAIN ??= ""

# Configuration that is taken when the partial list has none.
PV_CONFIG_DIR ??= "${PV_LAYERDIR}/files/config"

# Where SRC_URI's files are: UNPACKDIR, and WORKDIR in scarthgap.
PV_SIDE_DIR = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"

# As in the former layer, of recipes that make containers.
PVR_APP_ADD_GROUP ??= "root"
PVR_APP_ADD_ROLES ??= ""
PVR_APP_ADD_EXTRA_ARGS ??= "--volume ovl:/var:permanent"
PVR_FORMAT_OPTS ??= "${@bb.utils.contains('PANTAVISOR_FEATURES', 'squash-zstd', '-comp zstd', '-comp xz', d)}"
PV_CONFIG_OVERLAY_DIR ??= ""

# What a task with pv_container or pv_list depends on: names of variables that Python computes are
# not seen by BitBake.
PV_CONTAINER_VARS = "PVR_APP_ADD_GROUP PVR_APP_ADD_ROLES PVR_APP_ADD_EXTRA_ARGS PVR_FORMAT_OPTS PV_CONFIG_OVERLAY_DIR"
PV_LIST_VARS = "PV_COMPOSER PV_EPOCH PV_CONFIG_DIR PANTAVISOR_FEATURES TARGET_ARCH TUNE_FEATURES MACHINE"

def pv_side(d, name, kind):
    """The file NAME.KIND.json of a recipe, or KIND.json; "" without one."""
    for file in ('%s.%s.json' % (name, kind), '%s.json' % kind):
        path = os.path.join(d.getVar('PV_SIDE_DIR'), file)
        if os.path.exists(path):
            return path
    return ''

def pv_container(d, name, root, kind, flags):
    """A container as pvcompose from-yocto reads it; flags say more than the variables do."""
    def value(flag, variable):
        return flags.get(flag) or d.getVar(variable) or ''
    c = {
        'name': flags.get('name') or name, 'root': root, 'type': kind,
        'group': value('group', 'PVR_APP_ADD_GROUP'), 'roles': value('roles', 'PVR_APP_ADD_ROLES'),
        'add': value('add', 'PVR_APP_ADD_EXTRA_ARGS'), 'format': value('format', 'PVR_FORMAT_OPTS'),
    }
    for one in ('args', 'config', 'services', 'mdev', 'network'):
        c[one] = pv_side(d, name, one)
    overlay = d.getVar('PV_CONFIG_OVERLAY_DIR')
    if overlay:
        c['overlay'] = os.path.join(d.getVar('PV_SIDE_DIR'), overlay)
    return {k: v for k, v in c.items() if v}

def pv_list(d, target):
    """What each list has."""
    config = d.getVar('PV_CONFIG_DIR')
    return {
        '#spec': 'pantavisor-yocto@1', 'target': target, 'epoch': int(d.getVar('PV_EPOCH')),
        'arch': d.getVar('TARGET_ARCH'), 'tune': d.getVar('TUNE_FEATURES') or '', 'machine': d.getVar('MACHINE'),
        'features': d.getVar('PANTAVISOR_FEATURES') or '',
        'config': {
            'runtime': {'path': config + '/pantavisor.config'}, 'hub': {'path': config + '/pantahub.config'},
            'defaults': {'path': config + '/defaults'},
        },
    }

def pv_compose(d, todo, work):
    """Makes what a list wants and returns the directory with the results."""
    import json, shutil, subprocess
    shutil.rmtree(work, ignore_errors=True)
    bb.utils.mkdirhier(work)
    written = os.path.join(work, 'pv-list.json')
    with open(written, 'w') as f:
        json.dump(todo, f, indent=2, sort_keys=True)
    made, out = os.path.join(work, 'inputs.json'), os.path.join(work, 'out')
    # The program is static: nothing that is preloaded, as pseudo, sees its files.
    env = {'PATH': d.getVar('PATH'), 'TMPDIR': work, 'HOME': work, 'PSEUDO_UNLOAD': '1'}
    for args in (['from-yocto', written, '--out', made], ['build', '--inputs', made, '--out', out]):
        r = subprocess.run([d.getVar('PV_COMPOSER')] + args, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        bb.note(r.stdout)
        if r.returncode:
            bb.fatal('pvcompose %s: exit code %d\n%s' % (args[0], r.returncode, r.stdout))
    return out

# The kernel's options that Pantavisor needs, for recipes that read features (kernel-yocto). In
# local.conf or the distribution's configuration:
#
#   KERNEL_CLASSES:append = " pv-kernel"
#
# PV_KERNEL_FEATURES are further fragments, by their names in docs/kernel.md.
PV_KERNEL_FEATURES ??= ""

FILESEXTRAPATHS:prepend := "${PV_LAYERDIR}/files:"

python () {
    if not bb.data.inherits_class('kernel-yocto', d):
        if d.getVar('PN') != d.getVar('PREFERRED_PROVIDER_virtual/kernel'):
            return # another kernel of a layer, which this build does not take
        bb.fatal('%s does not read fragments: add the options of %s/files/pantavisor-kmeta to its configuration' % (d.getVar('PN'), d.getVar('PV_LAYERDIR')))
    import glob, re
    base = d.getVar('PV_LAYERDIR') + '/files/pantavisor-kmeta/pantavisor'
    version = [int(n) for n in re.findall('[0-9]+', d.getVar('LINUX_VERSION') or '0')[:2]]
    features = []
    for name in ['pantavisor'] + (d.getVar('PV_KERNEL_FEATURES') or '').split():
        if not os.path.exists('%s/%s.scc' % (base, name)):
            bb.fatal('PV_KERNEL_FEATURES: there is no fragment %s in %s' % (name, base))
        features.append('pantavisor/%s.scc' % name)
        later = []
        for file in glob.glob('%s/%s-*.scc' % (base, name)):
            since = re.fullmatch(re.escape(name) + r'-([0-9]+)\.([0-9]+)\.scc', os.path.basename(file))
            if since and [int(n) for n in since.groups()] <= version:
                later.append(([int(n) for n in since.groups()], 'pantavisor/' + os.path.basename(file)))
        features += [file for _, file in sorted(later)]
    d.appendVar('SRC_URI', ' file://pantavisor-kmeta;type=kmeta;destsuffix=pantavisor-kmeta')
    d.appendVar('KERNEL_FEATURES', ' ' + ' '.join(features))
}

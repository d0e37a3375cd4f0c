# The name that the former layer has for pv-export in images for a machine.
inherit container-pvrexport

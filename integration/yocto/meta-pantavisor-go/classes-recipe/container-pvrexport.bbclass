# The name that the former layer has for pv-export; what inherits it needs no change.
inherit pv-export

IMAGE_FSTYPES:append = " pvrexport"
IMAGE_CLASSES:remove = "image_populate_mfgtool"

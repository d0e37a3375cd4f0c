################################################################################
#
# Pantavisor
#
################################################################################

# The source, with all modules that it needs, is what "mage dist" makes.
PANTAVISOR_DIST_VERSION = $(call qstrip,$(BR2_PANTAVISOR_VERSION))
PANTAVISOR_DIST_SITE = $(call qstrip,$(BR2_PANTAVISOR_SITE))
PANTAVISOR_DIST_SOURCE = pantavisor-$(PANTAVISOR_DIST_VERSION)-vendored.tar.gz

# Beside a source in a directory are its hashes, in the form of patch directories.
ifneq ($(filter file://%,$(PANTAVISOR_DIST_SITE)),)
BR2_GLOBAL_PATCH_DIR := $(call qstrip,$(BR2_GLOBAL_PATCH_DIR)) $(patsubst file://%,%,$(PANTAVISOR_DIST_SITE))/buildroot
endif

include $(sort $(wildcard $(BR2_EXTERNAL_PANTAVISOR_PATH)/package/*/*.mk))

ifneq ($(BR2_PANTAVISOR_BSP)$(BR2_PANTAVISOR_CONTAINER),)

# Behind the scripts of the board, of which none is replaced.
BR2_ROOTFS_POST_IMAGE_SCRIPT := $(call qstrip,$(BR2_ROOTFS_POST_IMAGE_SCRIPT)) \
	$(BR2_EXTERNAL_PANTAVISOR_PATH)/board/common/post-image.sh

ifeq ($(BR2_PANTAVISOR_PVCOMPOSE_INSTALLED),y)
export PANTAVISOR_PVCOMPOSE = $(call qstrip,$(BR2_PANTAVISOR_PVCOMPOSE_PATH))
else
export PANTAVISOR_PVCOMPOSE = $(HOST_DIR)/bin/pvcompose
endif

# The directories of builds, this one first.
export PANTAVISOR_BUILDS = $(BASE_DIR) $(call qstrip,$(BR2_PANTAVISOR_CONTAINERS))

export PANTAVISOR_OPTIONS = \
	$(addprefix --with=,$(call qstrip,$(BR2_PANTAVISOR_WITH))) \
	$(addprefix --genimage=,$(call qstrip,$(BR2_PANTAVISOR_GENIMAGE))) \
	$(addprefix --size=,$(filter-out 0,$(BR2_PANTAVISOR_SIZE))) \
	$(addprefix --outputs=,$(call qstrip,$(BR2_PANTAVISOR_OUTPUTS))) \
	$(addprefix --release=,$(call qstrip,$(BR2_PANTAVISOR_RELEASE)))

endif

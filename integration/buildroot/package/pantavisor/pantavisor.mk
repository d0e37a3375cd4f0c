################################################################################
#
# pantavisor
#
################################################################################

PANTAVISOR_VERSION = $(PANTAVISOR_DIST_VERSION)
PANTAVISOR_SITE = $(PANTAVISOR_DIST_SITE)
PANTAVISOR_SOURCE = $(PANTAVISOR_DIST_SOURCE)
PANTAVISOR_GOMOD = github.com/pantavisor/pantavisor
PANTAVISOR_BUILD_TARGETS = cmd/pantavisor
# The program is static, whatever the C library of the target is.
PANTAVISOR_GO_ENV = CGO_ENABLED=0
PANTAVISOR_LDFLAGS = -s -w -X main.release=$(PANTAVISOR_VERSION)
PANTAVISOR_LICENSE = BSD-3-Clause, MIT
PANTAVISOR_LICENSE_FILES = \
	LICENSE \
	vendor/golang.org/x/sys/LICENSE \
	vendor/golang.org/x/sys/PATENTS

# Process 1 of an initramfs without an init of Buildroot.
ifeq ($(BR2_INIT_NONE),y)
define PANTAVISOR_INSTALL_INIT
	ln -sf usr/bin/pantavisor $(TARGET_DIR)/init
endef
PANTAVISOR_POST_INSTALL_TARGET_HOOKS += PANTAVISOR_INSTALL_INIT
endif

ifeq ($(BR2_mips)$(BR2_mipsel),y)

# Go compiles for 32-bit MIPS, but the golang infrastructure does not.
PANTAVISOR_DEPENDENCIES += host-go
PANTAVISOR_GOARCH = $(if $(BR2_mips),mips,mipsle)
PANTAVISOR_GOMIPS = $(if $(BR2_MIPS_SOFT_FLOAT),softfloat,hardfloat)

define PANTAVISOR_BUILD_CMDS
	cd $(@D); \
	$(HOST_GO_COMMON_ENV) $(PANTAVISOR_GO_ENV) \
		GOOS=linux GOARCH=$(PANTAVISOR_GOARCH) GOMIPS=$(PANTAVISOR_GOMIPS) \
		$(HOST_DIR)/bin/go build -v -trimpath -buildvcs=false -p $(PARALLEL_JOBS) \
		-ldflags "$(PANTAVISOR_LDFLAGS)" -o $(@D)/bin/pantavisor ./cmd/pantavisor
endef

define PANTAVISOR_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/bin/pantavisor $(TARGET_DIR)/usr/bin/pantavisor
endef

$(eval $(generic-package))

else

$(eval $(golang-package))

endif

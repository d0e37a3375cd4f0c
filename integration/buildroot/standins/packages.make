# For local.mk of a build without downloads: what would be compiled from sources of
# others is there already. Each package keeps its place in Buildroot's build;
# its source is a directory that hands out finished files, or its commands
# install links to programs of this machine. The file is read before the
# packages, whose assignments "override" then outranks.

# package, directory of its source, dependencies
define pantavisor-source
$(1)_OVERRIDE_SRCDIR = $$(PANTAVISOR_STAND_INS)/$(2)
override $(1)_DEPENDENCIES := $(3)
override $(1)_AUTORECONF := NO
override $(1)_LIBTOOL_PATCH := NO
endef

# host package, directory of HOST_DIR, programs
define pantavisor-programs
$(call pantavisor-source,HOST_$(1),empty,host-skeleton)
override HOST_$(1)_CONFIGURE_CMDS := @:
override HOST_$(1)_BUILD_CMDS := @:
override HOST_$(1)_INSTALL_CMDS = $(if $(3),@$$(INSTALL) -d $$(HOST_DIR)/$(2); ln -sf $(3) $$(HOST_DIR)/$(2),@:)
endef

pantavisor-program = $(shell PATH="$(PATH):/usr/sbin:/sbin" command -v $(1))

$(eval $(call pantavisor-programs,CPIO,bin,$(call pantavisor-program,cpio)))
$(eval $(call pantavisor-programs,FAKEROOT,bin,$(foreach p,fakeroot faked,$(call pantavisor-program,$(p)))))
$(eval $(call pantavisor-programs,GRUB2,bin,$(call pantavisor-program,grub-mkimage)))
$(eval $(call pantavisor-programs,KMOD,sbin,$(call pantavisor-program,depmod)))
$(eval $(call pantavisor-programs,SQUASHFS,bin,$(call pantavisor-program,mksquashfs)))
$(eval $(call pantavisor-programs,XZ,bin,$(call pantavisor-program,xz)))

# Nothing is linked with an RPATH.
$(eval $(call pantavisor-programs,PATCHELF))
override HOST_PATCHELF_INSTALL_CMDS = ln -sf /bin/true $(HOST_DIR)/bin/patchelf

# Nothing is compiled that needs them.
$(eval $(call pantavisor-programs,BISON))
$(eval $(call pantavisor-programs,ELFUTILS))
$(eval $(call pantavisor-programs,FLEX))
$(eval $(call pantavisor-programs,GNUTLS))
$(eval $(call pantavisor-programs,OPENSSL))
$(eval $(call pantavisor-programs,PKGCONF))
$(eval $(call pantavisor-source,MUSL_COMPAT_HEADERS,empty,skeleton))
override MUSL_COMPAT_HEADERS_SOURCE :=
override MUSL_COMPAT_HEADERS_INSTALL_STAGING_CMDS := @:

$(eval $(call pantavisor-source,BUSYBOX,busybox,skeleton toolchain))
$(eval $(call pantavisor-source,LINUX,linux,skeleton toolchain host-kmod))
LINUX_OVERRIDE_SRCDIR = $(PANTAVISOR_STAND_INS)/linux

# The modules of GRUB are Debian's; the image is made of them as otherwise.
$(eval $(call pantavisor-source,GRUB2,grub2,skeleton toolchain host-grub2))
override GRUB2_CONFIGURE_CMDS := @:
override GRUB2_BUILD_CMDS := @:

$(eval $(call pantavisor-source,UBOOT,uboot,skeleton toolchain))
override UBOOT_CONFIGURE_CMDS := @:
override UBOOT_BUILD_CMDS := @:
override UBOOT_INSTALL_IMAGES_CMDS = $(INSTALL) -D -m 0644 $(@D)/u-boot.bin $(BINARIES_DIR)/u-boot.bin

# What Go has compiled is there for the next build.
override HOST_GO_HOST_CACHE = $(abspath $(PANTAVISOR_STAND_INS)/../go-cache)
override HOST_GO_TARGET_CACHE = $(abspath $(PANTAVISOR_STAND_INS)/../go-cache)

################################################################################
#
# pvcompose
#
################################################################################

PVCOMPOSE_VERSION = $(PANTAVISOR_DIST_VERSION)
PVCOMPOSE_SITE = $(PANTAVISOR_DIST_SITE)
PVCOMPOSE_SOURCE = $(PANTAVISOR_DIST_SOURCE)
PVCOMPOSE_DL_SUBDIR = pantavisor
HOST_PVCOMPOSE_GOMOD = github.com/pantavisor/pantavisor
HOST_PVCOMPOSE_BUILD_TARGETS = cmd/pvcompose
HOST_PVCOMPOSE_GO_ENV = CGO_ENABLED=0
HOST_PVCOMPOSE_LDFLAGS = -s -w -X main.release=$(PVCOMPOSE_VERSION)
PVCOMPOSE_LICENSE = Apache-2.0, BSD-2-Clause, BSD-3-Clause, CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0, MIT, Unlicense
PVCOMPOSE_LICENSE_FILES = \
	LICENSE \
	vendor/github.com/CycloneDX/cyclonedx-go/LICENSE \
	vendor/github.com/CycloneDX/cyclonedx-go/NOTICE \
	vendor/github.com/VividCortex/ewma/LICENSE \
	vendor/github.com/acarl005/stripansi/LICENSE \
	vendor/github.com/anchore/go-lzo/LICENSE \
	vendor/github.com/anchore/go-struct-converter/LICENSE \
	vendor/github.com/clipperhouse/uax29/v2/LICENSE \
	vendor/github.com/diskfs/go-diskfs/LICENSE \
	vendor/github.com/github/go-spdx/v2/LICENSE \
	vendor/github.com/goccy/go-yaml/LICENSE \
	vendor/github.com/google/go-containerregistry/LICENSE \
	vendor/github.com/google/uuid/LICENSE \
	vendor/github.com/klauspost/compress/LICENSE \
	vendor/github.com/klauspost/pgzip/LICENSE \
	vendor/github.com/mattn/go-runewidth/LICENSE \
	vendor/github.com/opencontainers/go-digest/LICENSE \
	vendor/github.com/opencontainers/go-digest/LICENSE.docs \
	vendor/github.com/opencontainers/image-spec/LICENSE \
	vendor/github.com/pandatix/go-cvss/LICENSE \
	vendor/github.com/pierrec/lz4/v4/LICENSE \
	vendor/github.com/pkg/xattr/LICENSE \
	vendor/github.com/spdx/tools-golang/LICENSE.code \
	vendor/github.com/spdx/tools-golang/LICENSE.docs \
	vendor/github.com/spf13/cobra/LICENSE.txt \
	vendor/github.com/spf13/pflag/LICENSE \
	vendor/github.com/therootcompany/xz/LICENSE \
	vendor/github.com/u-root/u-root/LICENSE \
	vendor/github.com/u-root/uio/LICENSE \
	vendor/github.com/ulikunitz/xz/LICENSE \
	vendor/golang.org/x/exp/LICENSE \
	vendor/golang.org/x/exp/PATENTS \
	vendor/golang.org/x/mod/LICENSE \
	vendor/golang.org/x/mod/PATENTS \
	vendor/golang.org/x/sync/LICENSE \
	vendor/golang.org/x/sync/PATENTS \
	vendor/golang.org/x/sys/LICENSE \
	vendor/golang.org/x/sys/PATENTS

$(eval $(host-golang-package))

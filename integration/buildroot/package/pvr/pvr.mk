################################################################################
#
# pvr
#
################################################################################

PVR_VERSION = $(PANTAVISOR_DIST_VERSION)
PVR_SITE = $(PANTAVISOR_DIST_SITE)
PVR_SOURCE = $(PANTAVISOR_DIST_SOURCE)
PVR_DL_SUBDIR = pantavisor
HOST_PVR_GOMOD = github.com/pantavisor/pantavisor
HOST_PVR_BUILD_TARGETS = cmd/pvr
HOST_PVR_GO_ENV = CGO_ENABLED=0
HOST_PVR_LDFLAGS = -s -w -X main.release=$(PVR_VERSION)
PVR_LICENSE = Apache-2.0, BSD-3-Clause, CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0, MIT
PVR_LICENSE_FILES = \
	LICENSE \
	vendor/github.com/CycloneDX/cyclonedx-go/LICENSE \
	vendor/github.com/CycloneDX/cyclonedx-go/NOTICE \
	vendor/github.com/anchore/go-struct-converter/LICENSE \
	vendor/github.com/docker/cli/LICENSE \
	vendor/github.com/docker/cli/NOTICE \
	vendor/github.com/docker/docker-credential-helpers/LICENSE \
	vendor/github.com/github/go-spdx/v2/LICENSE \
	vendor/github.com/google/go-containerregistry/LICENSE \
	vendor/github.com/klauspost/compress/LICENSE \
	vendor/github.com/klauspost/pgzip/LICENSE \
	vendor/github.com/opencontainers/go-digest/LICENSE \
	vendor/github.com/opencontainers/go-digest/LICENSE.docs \
	vendor/github.com/opencontainers/image-spec/LICENSE \
	vendor/github.com/pion/logging/LICENSE \
	vendor/github.com/pion/mdns/v2/LICENSE \
	vendor/github.com/sirupsen/logrus/LICENSE \
	vendor/github.com/spdx/tools-golang/LICENSE.code \
	vendor/github.com/spdx/tools-golang/LICENSE.docs \
	vendor/github.com/spf13/cobra/LICENSE.txt \
	vendor/github.com/spf13/pflag/LICENSE \
	vendor/github.com/therootcompany/xz/LICENSE \
	vendor/golang.org/x/net/LICENSE \
	vendor/golang.org/x/net/PATENTS \
	vendor/golang.org/x/sync/LICENSE \
	vendor/golang.org/x/sync/PATENTS \
	vendor/golang.org/x/sys/LICENSE \
	vendor/golang.org/x/sys/PATENTS \
	vendor/golang.org/x/term/LICENSE \
	vendor/golang.org/x/term/PATENTS \
	vendor/golang.org/x/text/LICENSE \
	vendor/golang.org/x/text/PATENTS

$(eval $(host-golang-package))

// Package spdx2 writes and reads bills of materials as SPDX 2.3 JSON, and reads SPDX 2.2 JSON
// (https://spdx.github.io/spdx-spec/v2.3/ and ISO/IEC 5962:2021).
//
// What the model says and SPDX 2.3 cannot is kept in annotations of the type OTHER, made by "Tool:
// pantavisor", whose comment is a JSON object with the one key "pantavisor": of a package, its paths;
// of the document, the sizes of files, statements about vulnerabilities and the like. [Read] of what
// [Write] wrote gives the same document.
//
// Clause 8.4 wants the SHA-1 of each file. It is written where the model has it; where it does not, the
// file has a SHA-256 alone. A SHA-1 costs a second pass over each file and proves nothing that the
// SHA-256 does not; the JSON schema of SPDX 2.3 and readers of it take any algorithm, and only the
// validators that check clause 8.4 to the letter complain.
package spdx2

import (
	"regexp"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

const (
	// none is what is written for a value that is not known where one has to be.
	none = "NOASSERTION"
	// sourceText begins the source information that names a source package.
	sourceText = "built of source package "
)

// purposes are those of SPDX 2.3, 7.24.
var purposes = map[string]bool{
	"APPLICATION": true, "FRAMEWORK": true, "LIBRARY": true, "CONTAINER": true, "OPERATING-SYSTEM": true, "DEVICE": true,
	"FIRMWARE": true, "SOURCE": true, "ARCHIVE": true, "FILE": true, "INSTALL": true, "OTHER": true,
}

// kinds are those of SPDX 2.3, 11.1, that the library names, but OTHER, and two that it does not.
var kinds = func() map[string]bool {
	all := map[string]bool{"DEPENDENCY_MANIFEST_OF": true, "BUILD_DEPENDENCY_OF": true}
	for _, k := range []string{
		common.TypeRelationshipDescribe, common.TypeRelationshipDescribeBy, common.TypeRelationshipContains,
		common.TypeRelationshipContainedBy, common.TypeRelationshipDependsOn, common.TypeRelationshipDependencyOf,
		common.TypeRelationshipBuildDependencyOf, common.TypeRelationshipDevDependencyOf, common.TypeRelationshipOptionalDependencyOf,
		common.TypeRelationshipProvidedDependencyOf, common.TypeRelationshipTestDependencyOf, common.TypeRelationshipRuntimeDependencyOf,
		common.TypeRelationshipExampleOf, common.TypeRelationshipGenerates, common.TypeRelationshipGeneratedFrom,
		common.TypeRelationshipAncestorOf, common.TypeRelationshipDescendantOf, common.TypeRelationshipVariantOf,
		common.TypeRelationshipDistributionArtifact, common.TypeRelationshipPatchFor, common.TypeRelationshipPatchApplied,
		common.TypeRelationshipCopyOf, common.TypeRelationshipFileAdded, common.TypeRelationshipFileDeleted,
		common.TypeRelationshipFileModified, common.TypeRelationshipExpandedFromArchive, common.TypeRelationshipDynamicLink,
		common.TypeRelationshipStaticLink, common.TypeRelationshipDataFileOf, common.TypeRelationshipTestCaseOf,
		common.TypeRelationshipBuildToolOf, common.TypeRelationshipDevToolOf, common.TypeRelationshipTestOf,
		common.TypeRelationshipTestToolOf, common.TypeRelationshipDocumentationOf, common.TypeRelationshipOptionalComponentOf,
		common.TypeRelationshipMetafileOf, common.TypeRelationshipPackageOf, common.TypeRelationshipAmends,
		common.TypeRelationshipPrerequisiteFor, common.TypeRelationshipHasPrerequisite,
		common.TypeRelationshipRequirementDescriptionFor, common.TypeRelationshipSpecificationFor,
	} {
		all[k] = true
	}
	return all
}()

// person is the form of suppliers and creators: kind and name, in which the library's reader keeps
// neither blanks at the ends nor a JSON escape.
var person = regexp.MustCompile(`^(Person|Organization|Tool): ([^\s"\\\x00-\x1f](?:[^"\\\x00-\x1f]*[^\s"\\\x00-\x1f])?)$`)

// sourcePackage is the form of source information that we write.
var sourcePackage = regexp.MustCompile(`^` + sourceText + `(\S+)(?: (\S+))?$`)

// checksum returns the digest of an algorithm.
func checksum(list []common.Checksum, algorithm common.ChecksumAlgorithm) string {
	for _, c := range list {
		if c.Algorithm == algorithm {
			return c.Value
		}
	}
	return ""
}

// external returns the locator of the first reference of a package of one of the types.
func external(p *spdx.Package, types ...string) string {
	for _, t := range types {
		for _, r := range p.PackageExternalReferences {
			// OpenEmbedded writes the type as http://spdx.org/rdf/references/cpe23Type.
			if r != nil && r.RefType[strings.LastIndexByte(r.RefType, '/')+1:] == t {
				return r.Locator
			}
		}
	}
	return ""
}

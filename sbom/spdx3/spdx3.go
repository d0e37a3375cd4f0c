// Package spdx3 writes and reads bills of materials as SPDX 3.0.1 JSON-LD in the form of the JSON
// schema of that version (https://spdx.github.io/spdx-spec/v3.0.1/serializations/): one @graph of
// elements with compact names.
//
// An element has the IRI NAMESPACE#ID, the document has the namespace itself, and what only this form
// has, relationships, agents, expressions of licences and builds, has NAMESPACE/CLASS/DIGEST. Files
// that are generated from others are the output of a build_Build element, whose inputs and tools are
// those of the relations. Statements about vulnerabilities are VEX relationships. What SPDX 3.0.1
// cannot say, such as the size of a file, is kept in annotations of the content type application/json,
// as in package spdx2: [Read] of what [Write] wrote gives the same document.
//
// Of documents of other tools, such as OpenEmbedded's, the elements are kept that the model has; the
// others are counted in Omitted.
package spdx3

import (
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

const (
	context     = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
	specVersion = "3.0.1"
	// creation is the blank node of the creation information that all elements share.
	creation = "_:creationInfo"
	// buildType is the type of our builds.
	buildType = "urn:pantavisor:build"
	// vexVersion is that of the VEX relationships.
	vexVersion = "1.0.0"

	noneElement        = "NoneElement"
	noAssertionElement = "NoAssertionElement"
	noneLicence        = "expandedlicensing_NoneLicense"
	noAssertionLicence = "expandedlicensing_NoAssertionLicense"

	// statedBy begins the comment of a VEX relationship with an origin.
	statedBy = "stated by "
	// sourceText begins the source information that names a source package.
	sourceText = "built of source package "
)

// sourcePackage is the form of source information that we write.
var sourcePackage = regexp.MustCompile(`^` + sourceText + `(\S+)(?: (\S+))?$`)

// relationship is how SPDX 3.0.1 says a kind of SPDX 2.3; the scope may be empty. Turned ones have
// the ends exchanged.
type relationship struct {
	kind        sbom.Kind
	name, scope string
	turned      bool
}

// relationships are the kinds that both versions have.
var relationships = []relationship{
	{sbom.Describes, "describes", "", false},
	{sbom.Contains, "contains", "", false},
	{sbom.GeneratedFrom, "generates", "", true},
	{sbom.BuildToolOf, "usesTool", "build", true},
	{"DEV_TOOL_OF", "usesTool", "development", true},
	{"TEST_TOOL_OF", "usesTool", "test", true},
	{sbom.DependsOn, "dependsOn", "", false},
	{"BUILD_DEPENDENCY_OF", "dependsOn", "build", true},
	{"RUNTIME_DEPENDENCY_OF", "dependsOn", "runtime", true},
	{"DEV_DEPENDENCY_OF", "dependsOn", "development", true},
	{"TEST_DEPENDENCY_OF", "dependsOn", "test", true},
	{"OPTIONAL_DEPENDENCY_OF", "hasOptionalDependency", "", true},
	{"PROVIDED_DEPENDENCY_OF", "hasProvidedDependency", "", true},
	{"DEPENDENCY_MANIFEST_OF", "hasDependencyManifest", "", true},
	{sbom.VariantOf, "hasVariant", "", true},
	{sbom.Amends, "amendedBy", "", true},
	{"ANCESTOR_OF", "ancestorOf", "", false},
	{"DESCENDANT_OF", "descendantOf", "", false},
	{"COPY_OF", "copiedTo", "", true},
	{"DYNAMIC_LINK", "hasDynamicLink", "", false},
	{"STATIC_LINK", "hasStaticLink", "", false},
	{"DISTRIBUTION_ARTIFACT", "hasDistributionArtifact", "", false},
	{"EXPANDED_FROM_ARCHIVE", "expandsTo", "", true},
	{"FILE_ADDED", "hasAddedFile", "", true},
	{"FILE_DELETED", "hasDeletedFile", "", true},
	{"PATCH_FOR", "patchedBy", "", true},
	{"PACKAGE_OF", "packagedBy", "", true},
	{"DATA_FILE_OF", "hasDataFile", "", true},
	{"DOCUMENTATION_OF", "hasDocumentation", "", true},
	{"METAFILE_OF", "hasMetadata", "", true},
	{"EXAMPLE_OF", "hasExample", "", true},
	{"TEST_OF", "hasTest", "", true},
	{"TEST_CASE_OF", "hasTestCase", "", true},
	{"OPTIONAL_COMPONENT_OF", "hasOptionalComponent", "", true},
	{"HAS_PREREQUISITE", "hasPrerequisite", "", false},
	{"REQUIREMENT_DESCRIPTION_FOR", "hasRequirement", "", true},
	{"SPECIFICATION_FOR", "hasSpecification", "", true},
}

// purposes are those of SPDX 3.0.1, by the model's names.
var purposes = func() map[sbom.Purpose]string {
	all := map[sbom.Purpose]string{}
	for _, p := range []string{
		"application", "archive", "bom", "configuration", "container", "data", "device", "deviceDriver", "diskImage", "documentation",
		"evidence", "executable", "file", "filesystemImage", "firmware", "framework", "install", "library", "manifest", "model", "module",
		"operatingSystem", "other", "patch", "platform", "requirement", "source", "specification", "test",
	} {
		all[purpose(p)] = p
	}
	return all
}()

var capital = regexp.MustCompile(`[A-Z]`)

// purpose returns the model's name of a purpose: operatingSystem is OPERATING-SYSTEM.
func purpose(p string) sbom.Purpose {
	return sbom.Purpose(strings.ToUpper(capital.ReplaceAllString(p, "-$0")))
}

// justifications are those of SPDX 3.0.1, by those of OpenVEX.
var justifications = map[string]string{
	"component_not_present":                             "componentNotPresent",
	"vulnerable_code_not_present":                       "vulnerableCodeNotPresent",
	"vulnerable_code_not_in_execute_path":               "vulnerableCodeNotInExecutePath",
	"vulnerable_code_cannot_be_controlled_by_adversary": "vulnerableCodeCannotBeControlledByAdversary",
	"inline_mitigations_already_exist":                  "inlineMitigationsAlreadyExist",
}

// vex is how a status of OpenVEX is said.
type vex struct {
	// class is the type of the relationship, and name its kind.
	class, name string
}

var statuses = map[string]vex{
	"not_affected":        {"security_VexNotAffectedVulnAssessmentRelationship", "doesNotAffect"},
	"affected":            {"security_VexAffectedVulnAssessmentRelationship", "affects"},
	"fixed":               {"security_VexFixedVulnAssessmentRelationship", "fixedIn"},
	"under_investigation": {"security_VexUnderInvestigationVulnAssessmentRelationship", "underInvestigationFor"},
}

// Package cyclonedx writes bills of materials as CycloneDX 1.6 JSON, and reads JSON of CycloneDX 1.2 to
// 1.7 (https://cyclonedx.org/docs/1.6/json/).
//
// Packages and files are components, those of the type file are files. What has one owner that contains
// it stands inside of that component. Dependencies are the relations DEPENDS_ON; the document itself, as
// the component of the metadata, depends on the roots. Statements about vulnerabilities are
// vulnerabilities with an analysis. What CycloneDX has no place for is in properties whose names begin
// with "pantavisor:", so that [Read] of what [Write] wrote gives the same document.
package cyclonedx

import (
	"crypto/sha256"
	"fmt"
	"regexp"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/pantavisor/pantavisor/sbom"
)

// Names of properties.
const (
	prefix       = "pantavisor:"
	propNS       = prefix + "namespace"
	propCreator  = prefix + "creator"
	propOmitted  = prefix + "omitted"
	propSupport  = prefix + "support:end"
	propContact  = prefix + "support:contact"
	propLicence  = prefix + "licence"
	propRef      = prefix + "reference"
	propRelation = prefix + "relation"
	propRoot     = prefix + "root"
	propPurpose  = prefix + "purpose"
	propSupplier = prefix + "supplier"
	propSource   = prefix + "source:name"
	propVersion  = prefix + "source:version"
	propFileName = prefix + "fileName"
	propSize     = prefix + "size"
	propOrigin   = prefix + "origin"
	propJustify  = prefix + "justification"
	propAffects  = prefix + "affects"
)

// maxDepth is how deep components stand inside of each other in what is written.
const maxDepth = 16

// types are those of packages by their purposes. Other purposes are in a property.
var types = map[sbom.Purpose]cdx.ComponentType{
	sbom.Application: cdx.ComponentTypeApplication, sbom.Library: cdx.ComponentTypeLibrary, sbom.Container: cdx.ComponentTypeContainer,
	sbom.OperatingSystem: cdx.ComponentTypeOS, sbom.Device: cdx.ComponentTypeDevice, sbom.Firmware: cdx.ComponentTypeFirmware,
	"FRAMEWORK": cdx.ComponentTypeFramework,
}

// states are those of analyses by statuses of OpenVEX, and readStates the other way round.
var (
	states = map[string]cdx.ImpactAnalysisState{
		"not_affected": cdx.IASNotAffected, "affected": cdx.IASExploitable, "fixed": cdx.IASResolved, "under_investigation": cdx.IASInTriage,
	}
	readStates = map[cdx.ImpactAnalysisState]string{
		cdx.IASNotAffected: "not_affected", cdx.IASFalsePositive: "not_affected", cdx.IASExploitable: "affected", cdx.IASResolved: "fixed",
		cdx.IASResolvedWithPedigree: "fixed", cdx.IASInTriage: "under_investigation",
	}
)

// justifications are the nearest ones of CycloneDX for those of OpenVEX, and readJustifications the other
// way round.
var (
	justifications = map[string]cdx.ImpactAnalysisJustification{
		"component_not_present":                             cdx.IAJCodeNotPresent,
		"vulnerable_code_not_present":                       cdx.IAJCodeNotPresent,
		"vulnerable_code_not_in_execute_path":               cdx.IAJCodeNotReachable,
		"vulnerable_code_cannot_be_controlled_by_adversary": cdx.IAJProtectedAtPerimeter,
		"inline_mitigations_already_exist":                  cdx.IAJProtectedByMitigatingControl,
	}
	readJustifications = map[cdx.ImpactAnalysisJustification]string{
		cdx.IAJCodeNotPresent:               "vulnerable_code_not_present",
		cdx.IAJCodeNotReachable:             "vulnerable_code_not_in_execute_path",
		cdx.IAJRequiresConfiguration:        "vulnerable_code_not_in_execute_path",
		cdx.IAJRequiresDependency:           "vulnerable_code_not_in_execute_path",
		cdx.IAJRequiresEnvironment:          "vulnerable_code_not_in_execute_path",
		cdx.IAJProtectedByCompiler:          "inline_mitigations_already_exist",
		cdx.IAJProtectedAtRuntime:           "inline_mitigations_already_exist",
		cdx.IAJProtectedAtPerimeter:         "vulnerable_code_cannot_be_controlled_by_adversary",
		cdx.IAJProtectedByMitigatingControl: "inline_mitigations_already_exist",
	}
)

// link is the form of the namespace of a document of CycloneDX: its BOM-Link.
var link = regexp.MustCompile(`^urn:cdx:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/([1-9][0-9]{0,8})$`)

// serial returns a serial number that follows from a namespace: a UUID of version 8 (RFC 9562, 5.8).
func serial(namespace string) string {
	sum := sha256.Sum256([]byte(namespace))
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// property returns the values of the properties with a name.
func property(list *[]cdx.Property, name string) []string {
	var all []string
	if list != nil {
		for _, p := range *list {
			if p.Name == name {
				all = append(all, p.Value)
			}
		}
	}
	return all
}

// all returns the elements of a list of the library, in which a list that is not there is nil.
func all[T any](list *[]T) []T {
	if list == nil {
		return nil
	}
	return *list
}

// some returns a list in the library's form.
func some[T any](list []T) *[]T {
	if len(list) == 0 {
		return nil
	}
	return &list
}

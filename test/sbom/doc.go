// Package sbom compares the bills of materials of a whole build with inventories that other programs
// make of the same image.
package sbom

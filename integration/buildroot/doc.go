// Package buildroot is the external tree for Buildroot (docs/buildroot.md), and checks it: without
// Buildroot in its tests, and with a tree of Buildroot in [Check].
//
// What the packages' licences are, in package/NAME/NAME.mk and NAME.hash, follows from the modules
// that the programs are made of; after a change of go.mod write it with
//
//	go test ./integration/buildroot -run TestLicences -update
package buildroot

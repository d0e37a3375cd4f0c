// Package yocto checks the layer meta-pantavisor-go: without BitBake in its tests, and with trees
// of OpenEmbedded-Core and BitBake in [Check].
//
// The layer's copies of the kernel's fragments and of the configuration are made by
//
//	go test ./integration/yocto -run TestCopies -update
package yocto

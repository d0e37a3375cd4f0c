// Package images composes the images for a board, as steps of the build graph: the initrd
// and its addons, the BSP part and its export, revision 0 and the storage tree that holds
// it, and the disk image with its block map.
//
//	program  modules  files                 (cross, kernel, config, vendors, ca)
//	   |        |       |
//	   +--- compressed blocks ---+
//	                             v
//	kernel  squashfs  -------> initrd --> bsp --> trail <-- containers
//	                                       |        |
//	                                    export    image  <-- boot loader
//
// [Compose] makes the steps from [Inputs], the complete list of inputs; package resolve
// makes that list from a target. A new partition table goes into table.go, a new format
// of partitions into disk.go, a new output into compose.go.
//
// Every step writes its [build.Stamp] as the time, everything is owned by root, and
// identifiers are derived from the target's name and content, so that a tree gives the
// same bytes on every machine. Nothing here needs root or a loop device.
package images

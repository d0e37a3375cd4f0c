// Package images composes what a board is flashed with, as steps of the build
// graph: the initrd and its addons, the BSP part and its export, revision 0 and
// the storage tree that holds it, and the disk image with its block map.
//
//	program  modules  files                 (cross, kernel, config, vendors, ca)
//	   |        |       |
//	   +--- compressed blocks ---+
//	                             v
//	kernel  squashfs  -------> initrd --> bsp --> trail <-- containers
//	                                       |        |
//	                                    export    image  <-- boot loader
//
// [Compose] makes the steps from [Inputs], the whole list of what goes in; package
// resolve makes that list from a target. A new form of the partition table goes into
// table.go, a new format of partitions into disk.go, a new output into compose.go.
//
// Every step stamps its [build.Stamp], root owns everything, and identities are
// seeded by the target's name, so that a tree makes the same bits everywhere.
// Nothing here needs root or a loop device.
package images

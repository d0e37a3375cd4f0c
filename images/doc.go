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
// Every step stamps its [build.Stamp], root owns everything, and identities are
// seeded by the target's name, so that a tree makes the same bits everywhere.
// Nothing here needs root or a loop device.
package images

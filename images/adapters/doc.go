// Package adapters turns the results of other build systems into lists of inputs
// ([inputs.List]) for the composer: those of Buildroot's output directories and those of
// Yocto's deploy directories. It also reads the layouts of disks that these systems describe in
// files of their own, genimage.cfg and wks.
//
// An adapter computes every name from the configuration of the build that it reads. It never
// looks for files by patterns, and it writes no format: what it returns is the list, which
// package inputs checks and composes like any other.
package adapters

// Package arch has the test that runs the tests of revision/ and runtime/ as programs of
// other CPUs, in an emulator of single programs.
package arch

// Stage is a program that is only the stages of a start. The second stage runs in the
// container, so it must be linked statically, as the device binary is and a test's own
// program may not be.
package main

import "github.com/pantavisor/pantavisor/runtime/container"

func main() { container.Init() }

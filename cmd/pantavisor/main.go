// Command pantavisor is the one program on a device: process 1, the container
// engine, and the tools. Its own name or, when that says nothing, its first word
// chooses what it is; see [Run].
package main

import (
	"context"
	"os"
)

func main() { os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) }

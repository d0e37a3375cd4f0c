// Command pvr is the host tool for revisions: it makes, changes, signs and transfers
// the states of devices (manual: pvr). Scripts depend on its commands, outputs and exit
// codes.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

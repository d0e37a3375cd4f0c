// Command pvr is the host tool for revisions: it makes, changes, signs and moves
// the states of devices (manual: pvr). Its words, outputs and exit codes are those
// that scripts know.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

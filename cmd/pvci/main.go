// Command pvci does the work of pipelines: it makes packages of containers for all architectures, keeps
// devices and their recipes up to date, promotes revisions to images, and keeps the catalogue of
// releases. It does the same in a pipeline, on a laptop and in a test (docs/pipelines.md).
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestCatalogues runs the stories below testdata/catalogue.
func TestCatalogues(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/catalogue",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			return nil
		},
		Cmds: deviceCommands,
	})
}

package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	run := func() { os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	programs := map[string]func(){"pvci": run}
	for name := range former {
		programs[name] = run
	}
	testscript.Main(m, programs)
}

// TestScripts runs the stories below testdata/script. Each has a home directory of its own and knows nothing
// of the pipeline that the tests run in.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir+"/home")
			for k, v := range map[string]string{
				"GIT_AUTHOR_NAME": "developer", "GIT_AUTHOR_EMAIL": "developer@example.com", "GIT_AUTHOR_DATE": "2024-05-06T07:08:09Z",
				"GIT_COMMITTER_NAME": "developer", "GIT_COMMITTER_EMAIL": "developer@example.com", "GIT_COMMITTER_DATE": "2024-05-06T07:08:09Z",
				"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
			} {
				env.Setenv(k, v)
			}
			return os.Mkdir(env.WorkDir+"/home", 0o755)
		},
		Cmds: scriptCommands,
	})
}

// scriptCommands are the commands of the stories besides those of testscript.
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"exit":     exitCode,
	"registry": startRegistry,
	"push":     pushPlatforms,
	"stall":    stallRegistry,
	"layout":   makeLayout,
	"gitlab":   startGitLab,
	"mkkey":    makeKey,
	"verify":   verifyPackage,
	"list":     listDirectory,
	"serve":    serveDirectory,
}

// exitCode runs "exit CODE COMMAND…" and compares the command's exit code.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

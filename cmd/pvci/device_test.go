package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// deviceCommands are the commands of the stories of devices besides those of testscript.
var deviceCommands = map[string]func(*testscript.TestScript, bool, []string){
	"exit":      exitCode,
	"registry":  startImages,
	"push":      pushImage,
	"bucket":    startBucket,
	"hub":       startHub,
	"hubdevice": seedHub,
	"hubstate":  hubState,
	"deploy":    startDeploy,
	"bsp":       makeBSP,
	"device":    makeDevice,
	"results":   makeResults,

	"mkkey":        makeKey,
	"signpart":     signPart,
	"verifydevice": verifyDevice,
}

func TestDevices(t *testing.T) { testscript.Run(t, deviceStories("testdata/device")) }

// deviceStories are the stories of a directory. Each has a home directory of its own and knows nothing of
// the pipeline that the tests run in.
func deviceStories(dir string) testscript.Params {
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			home := env.WorkDir + "/home"
			for _, v := range []string{"HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "AWS_EC2_METADATA_DISABLED=true", "PH_CIBOT_EMAIL=bot@example.com"} {
				name, value, _ := strings.Cut(v, "=")
				env.Setenv(name, value)
			}
			if err := os.Mkdir(home, 0o755); err != nil {
				return err
			}
			return os.WriteFile(home+"/.gitconfig", []byte("[init]\n\tdefaultBranch = main\n[user]\n\tname = Tester\n\temail = t@example.com\n"), 0o644)
		},
		Cmds: deviceCommands,
	}
}

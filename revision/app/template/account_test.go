package template

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	passwd = "root:x:0:0::/root:/bin/sh\n# svc:x:1:1::/:\nsvc:x:1234:1235::/:/bin/sh\nbroken:x:many:1::/:\nshort\n"
	group  = "root:x:0:\nsvc:x:1235:svc\naudio:x:29:pulse,svc\nvideo:x:44:svc\nalso:x:29:svc\nnone:x:99:svcs\n"
)

// TestLookUp walks the forms of an image's User; what is right is what the tools do that
// run images.
func TestLookUp(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]Account{
		"svc":        {1234, 1235, []uint32{29, 44}},
		"svc:":       {1234, 1235, []uint32{29, 44}},
		"1234":       {1234, 1235, []uint32{29, 44}},
		"77":         {77, 0, nil},
		"svc:video":  {1234, 44, nil},
		"svc:7":      {1234, 7, nil},
		"77:audio":   {77, 29, nil},
		"root:audio": {0, 29, nil},
		":audio":     {0, 29, nil},
	} {
		if _, known := ParseUser(user); known {
			t.Errorf("%s is known without the image's files", user)
		}
		got, err := LookUp(user, passwd, group)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got)\n%s", user, err, d)
		}
	}
	for user, want := range map[string]string{
		"nobody": `user "nobody" is not in`, "svc:nogroup": `group "nogroup" is not in`, "broken": `the number "many"`, "-1": `user "-1"`, "4294967295": `user "4294967295"`,
	} {
		if _, err := LookUp(user, passwd, group); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", user, err, want)
		}
	}
	for user, want := range map[string]Account{"": {}, "root": {}, "0:0": {}, "5:6": {5, 6, nil}} {
		if got, known := ParseUser(user); !known || !cmp.Equal(got, want) {
			t.Errorf("%q: %v, %v", user, got, known)
		}
	}
}

func TestUserAndSignal(t *testing.T) {
	t.Parallel()
	for signal, want := range map[string]string{"SIGQUIT": "SIGQUIT", "quit": "SIGQUIT", "3": "3", "RTMIN+3": "SIGRTMIN+3"} {
		out, err := Render(Input{Name: "app", User: Account{1234, 1235, []uint32{29, 44}},
			Source: []byte(`{"template":"builtin-lxc-docker","docker_config":{"StopSignal":"` + signal + `"}}`)})
		if err != nil {
			t.Fatal(err)
		}
		if lines := "lxc.init.uid = 1234\nlxc.init.gid = 1235\nlxc.init.groups = 29,44\nlxc.signal.halt = " + want + "\n"; !strings.Contains(string(out.Config), lines) {
			t.Errorf("%s: %s", signal, out.Config)
		}
	}
}

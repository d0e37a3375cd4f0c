package pvcontrol

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// command is one verb; its words are "GROUP VERB" or "GROUP".
type command struct {
	name     string
	args     string // for the help
	help     string
	min, max int // arguments
	run      func(t *tool, args []string) error
}

// aliases are other names of the groups.
var aliases = map[string]string{
	"list": "ls", "command": "cmd", "commands": "cmd", "configuration": "config", "conf": "config",
	"container": "containers", "update": "updates", "group": "groups", "daemon": "daemons",
}

var commands = []command{
	{"ls", "", "list the containers of the running revision", 0, 0, get("/containers")},
	{"containers ls", "", "list the containers of the running revision", 0, 0, get("/containers")},
	{"containers start", "NAME", "start a stopped container", 1, 1, act("/containers/", "start")},
	{"containers stop", "NAME", "stop a container", 1, 1, act("/containers/", "stop")},
	{"containers restart", "NAME", "stop a container and start it again", 1, 1, act("/containers/", "restart")},
	{"groups ls", "", "list the groups", 0, 0, get("/groups")},
	{"daemons ls", "", "list the runtime's own daemons", 0, 0, get("/daemons")},
	{"daemons get", "NAME", "show one daemon", 1, 1, getDaemon},
	{"daemons start", "NAME", "start a daemon", 1, 1, act("/daemons/", "start")},
	{"daemons stop", "NAME", "stop a daemon", 1, 1, act("/daemons/", "stop")},
	{"daemons restart", "NAME", "stop a daemon and start it again", 1, 1, act("/daemons/", "restart")},
	{"graph ls", "", "show the service mesh", 0, 0, get("/xconnect-graph")},
	{"signal ready", "", "say that this container is ready", 0, 0, signal("ready")},
	{"cmd run", "REVISION", "go to a revision", 1, 1, runUpdate(api.OpLocalRun)},
	{"cmd run-commit", "REVISION", "go to a revision and commit it", 1, 1, runUpdate(api.OpLocalRunCommit)},
	{"cmd try-once", "REVISION", "try a revision once", 1, 1, runUpdate(api.OpTryOnce)},
	{"cmd apply", "REVISION", "apply a revision without a reboot", 1, 1, runUpdate(api.OpLocalApply)},
	{"updates ls", "", "list the updates that were made, also those that failed", 0, 0, listUpdates},
	{"updates show", "REVISION", "show how the updates of a revision went", 1, 1, showUpdate},
	{"updates why", "REVISION", "say why the last update of a revision failed", 1, 1, whyUpdate},
	{"updates check", "FILE|REVISION", "say what an update to a state would do; the exit code is 1 when something would stop it", 1, 1, checkUpdate},
	{"updates stage", "REVISION [TIME]", "go to a revision at the next reboot, or at TIME: HH:MM or HH:MM-HH:MM", 1, 2, stageUpdate},
	{"updates cancel", "REVISION", "take back an update that waits or is under test", 1, 1, remove("/updates/")},
	{"cmd reboot", "[MESSAGE]", "reboot the device", 0, 1, order(api.OpReboot)},
	{"cmd poweroff", "[MESSAGE]", "power the device off", 0, 1, order(api.OpPowerOff)},
	{"cmd make-factory", "[REVISION]", "make a revision the factory revision, and run that", 0, 1, makeFactory},
	{"cmd run-gc", "", "collect garbage", 0, 0, order(api.OpRunGC)},
	{"cmd enable-ssh", "", "start the SSH server until the next boot", 0, 0, order(api.OpEnableSSH)},
	{"cmd disable-ssh", "", "stop the SSH server until the next boot", 0, 0, order(api.OpDisableSSH)},
	{"cmd go-remote", "", "talk to the hub until the next boot", 0, 0, order(api.OpGoRemote)},
	{"cmd unclaim", "", "forget the hub's credentials", 0, 0, order(api.OpUnclaim)},
	{"cmd defer-reboot", "SECONDS", "put off a reboot while the debug shell is in use", 1, 1, deferReboot},
	{"devmeta ls", "", "list device metadata", 0, 0, get("/device-meta")},
	{"devmeta save", "KEY [VALUE]", "store device metadata; without VALUE it is read from standard input", 1, 2, save("/device-meta/")},
	{"devmeta delete", "KEY", "delete device metadata", 1, 1, remove("/device-meta/")},
	{"usrmeta ls", "", "list user metadata", 0, 0, get("/user-meta")},
	{"usrmeta save", "KEY|CONTAINER/KEY [VALUE]", "store user metadata; without VALUE it is read from standard input", 1, 2, save("/user-meta/")},
	{"usrmeta delete", "KEY|CONTAINER/KEY", "delete user metadata", 1, 1, remove("/user-meta/")},
	{"buildinfo", "", "show what the runtime was built from", 0, 0, get("/buildinfo")},
	{"sbom", "[CONTAINER] [--revision=REVISION]", "show what a revision, or a container, is made of: its bill of materials as SPDX 2.3", 0, 3, showSBOM},
	{"objects ls", "", "list the stored objects", 0, 0, get("/objects")},
	{"objects get", "SHA256", "fetch an object", 1, 1, getAt("/objects/", "")},
	{"objects put", "FILE|-SIZE SHA256", "store an object from a file, or SIZE bytes of standard input", 2, 2, putObject},
	{"steps ls", "", "list the revisions", 0, 0, get("/steps")},
	{"steps get", "REVISION", "show the state of a revision", 1, 1, getAt("/steps/", "")},
	{"steps show-progress", "REVISION", "show the progress of a revision", 1, 1, getAt("/steps/", "/progress")},
	{"steps put", "FILE REVISION", "store a state as a revision", 2, 2, putStep},
	{"steps check", "FILE|REVISION", "the same as updates check", 1, 1, checkUpdate},
	{"steps install", "TARBALL [REVISION]", "store an exported state and its objects as a revision", 1, 2, install},
	{"config ls", "", "list the values by their old names; a person is also told which have no effect", 0, 0, listConfig},
	{"config sources", "", "list the settings, their values and where they come from", 0, 0, get("/config2")},
	{"storage gc", "", "collect garbage and say how much was freed", 0, 0, collect},
}

// find returns the command that the words name and what follows it.
func find(words []string) (*command, []string, error) {
	group := words[0]
	if full, ok := aliases[group]; ok {
		group = full
	}
	for n := min(2, len(words)); n > 0; n-- {
		name := strings.Join(append([]string{group}, words[1:n]...), " ")
		if i := slices.IndexFunc(commands, func(c command) bool { return c.name == name }); i >= 0 {
			return &commands[i], words[n:], nil
		}
	}
	switch {
	case !isGroup(group):
		return nil, nil, fmt.Errorf("%w: unknown command %q", errUsage, words[0])
	case len(words) == 1:
		return nil, nil, fmt.Errorf("%w: command %q needs another word", errUsage, words[0])
	}
	return nil, nil, fmt.Errorf("%w: unknown command %q of %q", errUsage, words[1], words[0])
}

// in reports whether the command's first word is a group's.
func (c command) in(group string) bool {
	first, _, _ := strings.Cut(c.name, " ")
	return first == group
}

func isGroup(name string) bool {
	return slices.ContainsFunc(commands, func(c command) bool { return c.in(name) })
}

// help prints the commands that begin with the words. It is the answer to -h and,
// as an error, to no words at all.
func (t *tool) help(words []string, asked bool) int {
	w, code := t.stdout, exitOK
	if !asked {
		w, code = t.stderr, exitUsage
	}
	prefix := ""
	if len(words) > 0 {
		if prefix = words[0]; aliases[prefix] != "" {
			prefix = aliases[prefix]
		}
		if !isGroup(prefix) {
			return t.finish(fmt.Errorf("%w: unknown command %q", errUsage, words[0]))
		}
	}
	fmt.Fprint(w, "Usage: pvcontrol [-h] [-v] [-s SOCKET] [-f FILE] [-m MESSAGE] [--json] [--wait] COMMAND [ARGUMENTS]\n\n"+
		"--wait waits for an update that is in progress, and follows the one that was asked for to its end.\n\n")
	for _, c := range commands {
		if prefix == "" || c.in(prefix) {
			fmt.Fprintf(w, "  %-36s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
		}
	}
	if prefix == "sbom" {
		fmt.Fprint(w, sbomExamples)
	}
	return code
}

func get(path string) func(*tool, []string) error {
	return func(t *tool, _ []string) error { return t.show(&client.Request{Path: path}) }
}

// listConfig lists the values. On a terminal it names the settings that have a note, such
// as those without effect; scripts read only the values.
func listConfig(t *tool, _ []string) error {
	if err := t.show(&client.Request{Path: "/config"}); err != nil || !isTerminal(t.stdout) {
		return err
	}
	return t.remarks(t.stderr)
}

// remarks writes the settings with a note, a line for each note.
func (t *tool) remarks(w io.Writer) error {
	var list []api.Setting
	if err := t.client.Fetch(t.ctx, "/config2", &list); err != nil {
		return err
	}
	var notes []string
	names := map[string][]string{}
	for _, s := range list {
		if s.Note == "" {
			continue
		}
		if names[s.Note] == nil {
			notes = append(notes, s.Note)
		}
		names[s.Note] = append(names[s.Note], s.Key)
	}
	for _, n := range notes {
		if _, err := fmt.Fprintf(w, "%s: %s\n", n, strings.Join(names[n], " ")); err != nil {
			return err
		}
	}
	return nil
}

// isTerminal reports whether a person reads what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func getAt(prefix, suffix string) func(*tool, []string) error {
	return func(t *tool, args []string) error {
		return t.show(&client.Request{Path: prefix + args[0] + suffix})
	}
}

func remove(prefix string) func(*tool, []string) error {
	return func(t *tool, args []string) error {
		return t.show(&client.Request{Method: "DELETE", Path: prefix + args[0]})
	}
}

func (t *tool) send(method, path string, v any) error {
	req, err := client.WithJSON(method, path, v)
	if err != nil {
		return err
	}
	return t.show(req)
}

func act(prefix, action string) func(*tool, []string) error {
	return func(t *tool, args []string) error {
		return t.send("PUT", prefix+args[0], api.Action{Action: action})
	}
}

func signal(typ string) func(*tool, []string) error {
	return func(t *tool, _ []string) error { return t.send("POST", "/signal", api.Signal{Type: typ}) }
}

func order(op string) func(*tool, []string) error {
	return func(t *tool, args []string) error {
		return t.send("POST", "/commands", api.Command{Op: op, Payload: strings.Join(args, " ")})
	}
}

func deferReboot(t *tool, args []string) error {
	if _, err := strconv.ParseUint(args[0], 10, 31); err != nil {
		return fmt.Errorf("%w: %q is not a number of seconds", errUsage, args[0])
	}
	return order(api.OpDeferReboot)(t, args)
}

func save(prefix string) func(*tool, []string) error {
	return func(t *tool, args []string) error {
		value := ""
		if len(args) == 2 {
			value = args[1]
		} else {
			text, err := readAll(t.stdin)
			if err != nil {
				return err
			}
			value = string(text)
		}
		return t.show(client.WithBody("PUT", prefix+args[0], value))
	}
}

func collect(t *tool, _ []string) error { return t.show(client.WithBody("POST", "/storage/gc", "")) }

// getDaemon picks one daemon out of the list.
func getDaemon(t *tool, args []string) error {
	var list []json.RawMessage
	if err := t.client.Fetch(t.ctx, "/daemons", &list); err != nil {
		return err
	}
	for _, raw := range list {
		var d api.Daemon
		if json.Unmarshal(raw, &d) == nil && d.Name == args[0] {
			return t.output(strings.NewReader(string(raw)), true)
		}
	}
	return &client.Refused{Status: 404, Body: `{"Error":"Daemon not found"}`}
}

func putObject(t *tool, args []string) error {
	t.client.Timeout = objectTimeout
	req := &client.Request{Method: "PUT", Path: "/objects/" + args[1]}
	if size, ok := strings.CutPrefix(args[0], "-"); ok {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%w: -SIZE is a number of bytes of standard input, not %q", errUsage, args[0])
		}
		req.Body, req.Size = t.stdin, n
		return t.show(req)
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	req.Body, req.Size = f, st.Size()
	return t.show(req)
}

func putStep(t *tool, args []string) error {
	state, err := readFile(args[0], t.stdin)
	if err != nil {
		return err
	}
	if err := t.show(client.WithBody("PUT", "/steps/"+args[1], string(state))); err != nil {
		return err
	}
	return t.commitMessage(args[1])
}

func (t *tool) commitMessage(rev string) error {
	if t.message == "" {
		return nil
	}
	return t.client.Send(t.ctx, client.WithBody("PUT", "/steps/"+rev+"/commitmsg", t.message))
}

// openFile opens a file; "-" is the standard input.
func openFile(path string, stdin io.Reader) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(stdin), nil
	}
	return os.Open(path)
}

func readFile(path string, stdin io.Reader) ([]byte, error) {
	f, err := openFile(path, stdin)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readNamed(path, f)
}

func readNamed(path string, r io.Reader) ([]byte, error) {
	text, err := bounded.Read(r, client.MaxReply)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return text, nil
}

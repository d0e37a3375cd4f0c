package pvcontrol

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// errBlocked is the error of an update that would not go.
var errBlocked = errors.New("the update would not go")

// checkUpdate prints what an update to a stored revision, or to the state in a file, would do.
func checkUpdate(t *tool, args []string) error {
	u, err := t.checked(args[0])
	if err != nil {
		return err
	}
	lines := strings.Join(checkLines(u), "\n")
	if t.json {
		text, err := json.Marshal(u)
		if err != nil {
			return err
		}
		lines = string(text)
	}
	if err := t.say(lines); err != nil {
		return err
	}
	if !u.Possible {
		return errBlocked
	}
	return nil
}

// checked asks about a file if there is one of that name, else about a revision. A number is
// always a revision; ./3 is a file.
func (t *tool) checked(name string) (*api.UpdateCheck, error) {
	_, notNumber := strconv.Atoi(name)
	info, err := os.Stat(name)
	if name != "-" && (notNumber == nil || err != nil || info.IsDir()) {
		return t.client.CheckStored(t.ctx, name)
	}
	in, err := openFile(name, t.stdin)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	file := bufio.NewReader(in)
	if isExport(file) {
		return nil, fmt.Errorf("%s is an export: the device judges it when it has its objects. pvcontrol steps install stores it, and runs nothing; check the revision that it prints", name)
	}
	state, err := readNamed(name, file)
	if err != nil {
		return nil, err
	}
	return t.client.CheckState(t.ctx, state)
}

// isExport reports whether a file is an archive, plain or compressed, and not a state.
func isExport(r *bufio.Reader) bool {
	const magicAt = 257            // of tar
	head, _ := r.Peek(magicAt + 5) // a short one may be a state
	for at, magic := range map[int]string{0: "\x1f\x8b", magicAt: "ustar"} {
		if len(head) >= at && bytes.HasPrefix(head[at:], []byte(magic)) {
			return true
		}
	}
	return bytes.HasPrefix(head, []byte("BZh"))
}

func checkLines(u *api.UpdateCheck) []string {
	lines := append(client.Difference(u.Difference), client.Transition(u)...)
	for _, b := range u.Blockers {
		lines = append(lines, "blocker  "+b.Check+": "+b.Text)
	}
	return lines
}

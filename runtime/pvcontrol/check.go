package pvcontrol

import (
	"encoding/json"
	"errors"
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
	state, err := readFile(name, t.stdin)
	if err != nil {
		return nil, err
	}
	return t.client.CheckState(t.ctx, state)
}

func checkLines(u *api.UpdateCheck) []string {
	lines := append(client.Difference(u.Difference), client.Transition(u)...)
	for _, b := range u.Blockers {
		lines = append(lines, "blocker  "+b.Check+": "+b.Text)
	}
	return lines
}

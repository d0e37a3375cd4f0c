package updater

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// Updates lists the updates that the journal knows, oldest first.
func (u *Updater) Updates() []api.Update {
	var list []api.Update
	at := map[int64]int{}
	told := u.told.Load()
	for _, r := range u.o.Journal.Records() {
		if r.Seq > told {
			break
		}
		i, ok := at[r.Began]
		if !ok {
			i = len(list)
			at[r.Began] = i
			list = append(list, api.Update{Number: r.Began, Revision: r.Revision, Mode: string(r.Mode), From: r.From, When: r.When})
		}
		up := &list[i]
		up.Status, up.Message, up.Failure = string(r.Status), r.Message, r.Failure
		up.Path = append(up.Path, api.UpdateStep{Time: r.Time.UTC().Format(time.RFC3339), Status: string(r.Status), Message: r.Message})
	}
	return list
}

// Progress returns the progress of a revision that is not stored, as its last update left
// it; nil when there was none.
func (u *Updater) Progress(rev string) []byte {
	r := u.o.Journal.Last(rev)
	if r == nil {
		return nil
	}
	text, err := json.Marshal(r.Status.progress(r.Message))
	if err != nil {
		return nil
	}
	return text
}

// maxLogs bounds the "logs" of a progress, in bytes.
const maxLogs = 4096

// progressLogs returns the reason of a failure as the "logs" of a progress: lines of JSON
// in the form of the log server's, the newest of which stay.
func progressLogs(f *api.UpdateFailure) string {
	lines := []string{logLine("pantavisor", "ERROR", "updater", clip(f.Text))}
	for _, l := range f.Log {
		lines = append(lines, logLine(f.Container, "INFO", "lxc/console.log", l))
	}
	size := 0
	for i := len(lines) - 1; i > 0; i-- {
		if size += len(lines[i]); size > maxLogs-len(lines[0]) {
			lines = append(lines[:1], lines[i+1:]...)
			break
		}
	}
	return strings.Join(lines, "")
}

func logLine(platform, level, source, text string) string {
	now := time.Now()
	line, err := json.Marshal(struct {
		Sec      int64  `json:"tsec"`
		Nano     int    `json:"tnano"`
		Platform string `json:"platform"`
		Level    string `json:"lvl"`
		Source   string `json:"src"`
		Text     string `json:"msg"`
	}{now.Unix(), now.Nanosecond(), platform, level, source, text})
	if err != nil {
		return ""
	}
	return string(line) + "\n"
}

package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// LogEntry is one line that a device logged. Its field names are those that log
// templates use (manual: pvr logs).
type LogEntry struct {
	ID          string    `json:"id,omitempty"`
	Device      string    `json:"dev,omitempty"`
	Owner       string    `json:"own,omitempty"`
	TimeCreated time.Time `json:"time-created,omitempty"`
	LogTSec     int64     `json:"tsec,omitempty"`
	LogTNano    int64     `json:"tnano,omitempty"`
	LogRev      string    `json:"rev,omitempty"`
	LogPlat     string    `json:"plat,omitempty"`
	LogSource   string    `json:"src,omitempty"`
	LogLevel    string    `json:"lvl,omitempty"`
	LogText     string    `json:"msg,omitempty"`
}

// LogFilter selects log entries; empty fields select all. Lists are separated by
// commas.
type LogFilter struct {
	Devices, Revisions, Sources, Levels, Platforms string
	// From and To bound the time at which the Hub received an entry.
	From, To time.Time
}

// ParseLogSelector reads DEV[,DEV][/SRC[,SRC][@LVL[#PLAT]]] into a filter.
func ParseLogSelector(text string) LogFilter {
	rest, platforms, _ := strings.Cut(text, "#")
	rest, levels, _ := strings.Cut(rest, "@")
	devices, sources, _ := strings.Cut(rest, "/")
	return LogFilter{Devices: devices, Sources: sources, Levels: levels, Platforms: platforms}
}

// logTimes are the formats of a time; those without a zone are in local time.
var logTimes = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"}

// duration is an ISO 8601 duration; years and months are not split into days.
var duration = regexp.MustCompile(`^P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?(T(?:(\d{1,6})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?$`)

// ParseLogTime reads a date, a date with time, RFC 3339, or an ISO 8601 duration
// before now ("P10D").
func ParseLogTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range logTimes {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, nil
		}
	}
	m := duration.FindStringSubmatch(text)
	if m == nil || text == "P" || m[5] == "T" {
		return time.Time{}, fault.New(fault.BadInput, "time %.60q: YYYY-MM-DD, YYYY-MM-DDTHH:MM:SS with or without zone, or a duration like P1DT12H is expected", text)
	}
	part := func(i int) int {
		n, _ := strconv.Atoi(m[i]) // digits, bounded by the pattern
		return n
	}
	at := now.AddDate(-part(1), -part(2), -7*part(3)-part(4))
	return at.Add(-time.Duration(part(6))*time.Hour - time.Duration(part(7))*time.Minute - time.Duration(part(8))*time.Second), nil
}

var rawID = regexp.MustCompile(`^[0-9a-f]{24}$`)

// query returns the filter as a query of the Hub. Ids are completed to names.
func (f LogFilter) query() url.Values {
	q := url.Values{"cursor": {"true"}, "page": {"3000"}, "sort": {"time-created"}}
	devices := strings.Split(f.Devices, ",")
	for i, d := range devices {
		if rawID.MatchString(d) {
			devices[i] = "prn:::devices:/" + d
		}
	}
	for name, value := range map[string]string{
		"dev": strings.Join(devices, ","), "rev": f.Revisions, "src": f.Sources, "lvl": f.Levels, "plat": f.Platforms,
		"after": logTime(f.From), "before": logTime(f.To),
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

func logTime(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

type logPage struct {
	Cursor  string     `json:"next-cursor"`
	Entries []LogEntry `json:"entries"`
}

// Logs passes log entries to show, oldest first, until show fails or there are no more.
// With an interval above 0 it then polls for newer ones until the context ends or the
// filter's To has passed.
func (c *Client) Logs(ctx context.Context, f LogFilter, interval time.Duration, show func(LogEntry) error) error {
	seen := map[string]time.Time{}
	for {
		if err := c.logRound(ctx, &f, seen, show); err != nil {
			return fmt.Errorf("reading logs: %w", err)
		}
		if interval <= 0 || !f.To.IsZero() && time.Now().After(f.To) {
			return nil
		}
		if err := wait(ctx, interval); err != nil {
			return err
		}
	}
}

// logRound reads all current pages and moves the filter's start to the newest entry.
// The query has whole seconds, so that entries of the last second come again; they are
// recognised by their ids.
func (c *Client) logRound(ctx context.Context, f *LogFilter, seen map[string]time.Time, show func(LogEntry) error) error {
	u, err := c.api("logs")
	if err != nil {
		return err
	}
	u = announceURL(u)
	u.RawQuery = f.query().Encode()
	k := &call{method: http.MethodGet, url: u}
	for {
		page, err := c.logPage(ctx, k)
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if err := showNew(e, f, seen, show); err != nil {
				return err
			}
		}
		forget(seen, f.From)
		if page.Cursor == "" || len(page.Entries) == 0 {
			return nil
		}
		if k, err = c.cursorCall(page.Cursor); err != nil {
			return err
		}
	}
}

func (c *Client) cursorCall(cursor string) (*call, error) {
	u, err := c.api("logs", "cursor")
	body := canon.Obj(canon.Member{Name: "next-cursor", Value: canon.Str(cursor)}).Encode()
	return &call{method: http.MethodPost, url: u, body: body, ctype: jsonType}, err
}

func (c *Client) logPage(ctx context.Context, k *call) (*logPage, error) {
	r, err := c.do(ctx, k, http.StatusOK)
	if err != nil {
		return nil, err
	}
	var page logPage
	err = json.Unmarshal(r.body, &page)
	return &page, fault.Wrap(fault.Unreachable, err, "reading the answer of %s", shown(k.url))
}

func showNew(e LogEntry, f *LogFilter, seen map[string]time.Time, show func(LogEntry) error) error {
	if _, old := seen[e.ID]; old && e.ID != "" {
		return nil
	}
	seen[e.ID] = e.TimeCreated
	if e.TimeCreated.After(f.From) {
		f.From = e.TimeCreated
	}
	return show(e)
}

// forget removes the ids that cannot come again.
func forget(seen map[string]time.Time, from time.Time) {
	for id, at := range seen {
		if at.Before(from.Truncate(time.Second)) {
			delete(seen, id)
		}
	}
}

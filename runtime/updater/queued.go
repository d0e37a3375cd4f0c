package updater

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// whenReboot is the time of an update that waits for a reboot.
const whenReboot = "reboot"

// window is a span of each day in which a waiting update may begin, in minutes since
// midnight; until may be below from, across midnight.
type window struct{ from, until int }

// parseWindow reads [Request.When]; nil for an empty one and for "reboot".
func parseWindow(text string) (*window, error) {
	if text == "" || text == whenReboot {
		return nil, nil //nolint:nilnil // no window is not an error
	}
	first, last, span := strings.Cut(text, "-")
	from, err := parseMinute(first)
	until := from + 1
	if err == nil && span {
		until, err = parseMinute(last)
	}
	if err == nil && from == until {
		err = fmt.Errorf("it begins when it ends")
	}
	if err != nil {
		return nil, fmt.Errorf(`time %q: want "reboot", "HH:MM" or "HH:MM-HH:MM": %w`, text, err)
	}
	return &window{from, until % minutesOfDay}, nil
}

const minutesOfDay = 24 * 60

func parseMinute(text string) (int, error) {
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of day", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// next returns how long it is until the window opens, 0 while it is open.
func (w *window) next(now time.Time) time.Duration {
	minute := now.Hour()*60 + now.Minute()
	open := minute >= w.from && minute < w.until
	if w.until < w.from {
		open = minute >= w.from || minute < w.until
	}
	if open {
		return 0
	}
	wait := time.Duration((w.from-minute+minutesOfDay)%minutesOfDay) * time.Minute
	return wait - time.Duration(now.Second())*time.Second
}

// maxNap bounds the time until the clock is looked at again: it may be set meanwhile.
const maxNap = 10 * time.Minute

// timer fires when the waiting update may begin, or sooner.
func (u *Updater) timer() <-chan time.Time {
	wait, ok := u.due()
	if !ok {
		return nil
	}
	return time.After(min(wait, maxNap))
}

// due returns how long it is until the waiting update may begin; false without one that
// waits for a time of day.
func (u *Updater) due() (time.Duration, bool) {
	if u.waiting == nil {
		return 0, false
	}
	w, err := parseWindow(u.waiting.when)
	if err != nil || w == nil {
		return 0, false
	}
	now := time.Now()
	if now.Before(u.waiting.asked) { // a clock that nobody has set since the device started
		return maxNap, true
	}
	return w.next(now), true
}

// activate begins the waiting update when it is time.
func (u *Updater) activate(ctx context.Context) {
	j := u.waiting
	if wait, ok := u.due(); !ok || wait > 0 || !u.busy.CompareAndSwap(false, true) {
		return
	}
	u.waiting = nil
	j.from = u.running.Rev
	u.perform(ctx, j, u.install)
}

// queued prepares an update that waits: all that can fail fails now. The next reboot, if
// that is what it waits for, tries it, whoever asks for it.
func (u *Updater) queued(ctx context.Context, j *job) phase {
	next := u.install(ctx, j)
	if j.failure != nil {
		return next
	}
	message := msgQueuedTime
	if j.when == whenReboot {
		message = msgQueuedReboot
	}
	if err := u.enter(j, Queued, message); err != nil {
		j.fail(checkInstall, err)
		return u.refuse(msgInternal)
	}
	if j.when == whenReboot {
		if err := u.o.Store.SetTry(j.rev); err != nil {
			j.fail(checkLoader, err)
			return u.abandon
		}
	}
	u.waiting = j
	return nil
}

// cancel ends the waiting update.
func (u *Updater) cancel(rev string) error {
	j := u.waiting
	if j == nil || j.rev != rev {
		return &api.Error{Status: 404, Text: "No update of revision " + rev + " is waiting"}
	}
	u.waiting = nil
	u.drop(j)
	return nil
}

// drop ends an update that waits, and the try that it has set.
func (u *Updater) drop(j *job) {
	if j.when == whenReboot {
		u.endTry(j.rev)
	}
	_ = u.enter(j, Canceled, msgAborted)
}

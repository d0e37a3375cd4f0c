package init

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// A journal takes the messages of process 1 to three places: the console, the
// kernel log, and the pipe from which the engine moves them into the log files.
// None of them ever blocks: what a place does not take is lost there, and for
// the pipe counted.
type journal struct {
	mu      sync.Mutex
	console int // -1 before open
	kmsg    int
	pipe    int // write end
	reader  int // read end, which the engine inherits
	level   logs.Level
	dropped int
}

var _ logs.Sink = (*journal)(nil)

// earlyBytes is the room for messages until the engine reads them.
const earlyBytes = 256 << 10

// newJournal returns one that writes to standard error and the pipe; open adds
// the rest when /dev is mounted.
func newJournal() *journal {
	j := &journal{console: 2, kmsg: -1, pipe: -1, reader: -1, level: logs.Info}
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC) == nil {
		j.reader, j.pipe = p[0], p[1]
		_ = unix.SetNonblock(j.pipe, true)
		_, _ = unix.FcntlInt(uintptr(j.pipe), unix.F_SETPIPE_SZ, earlyBytes) // the default of 64 KiB will do
	}
	return j
}

// open turns to the console and the kernel log, once /dev is there.
func (j *journal) open() {
	j.mu.Lock()
	defer j.mu.Unlock()
	const mode = unix.O_WRONLY | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_CLOEXEC
	if fd, err := unix.Open("/dev/console", mode, 0); err == nil {
		j.console = fd
	}
	if fd, err := unix.Open("/dev/kmsg", mode, 0); err == nil {
		j.kmsg = fd
	}
}

// setLevel sets the most talkative level that is passed on.
func (j *journal) setLevel(l logs.Level) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.level = l
}

// Log takes one message; lines of a longer one follow each other.
func (j *journal) Log(_, source string, level logs.Level, msg string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if level > j.level && level > logs.Info {
		return
	}
	for line := range strings.Lines(msg) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			j.keep(source, level, line, j.show(source, level, line))
		}
	}
}

// severities of the kernel log (printk), by our levels.
var severities = [...]int{logs.Fatal: 2, logs.Error: 3, logs.Warn: 4, logs.Info: 6, logs.Debug: 7, logs.Trace: 7, logs.All: 7}

// show writes to the kernel log, and to the console what the kernel does not show
// there by itself. It returns whether the message is on the console now.
func (j *journal) show(source string, level logs.Level, line string) bool {
	severity := severities[min(max(level, logs.Fatal), logs.All)]
	logged := false
	if j.kmsg >= 0 {
		const user = 1 << 3 // facility of processes
		_, err := unix.Write(j.kmsg, fmt.Appendf(nil, "<%d>pantavisor: %s: %s", user|severity, source, line))
		logged = err == nil
	}
	if logged && severity < kernelLevel() {
		return true
	}
	if level > logs.Info {
		return false
	}
	_, err := unix.Write(j.console, fmt.Appendf(nil, "pantavisor: %s: %s: %s\r\n", level, source, line))
	return err == nil
}

// kernelLevel is below which the kernel shows messages on the console.
func kernelLevel() int {
	b, err := os.ReadFile("/proc/sys/kernel/printk")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.Fields(string(b) + " x")[0])
	if err != nil {
		return 0
	}
	return n
}

// keep hands the message to the engine, and first says how many it did not take.
func (j *journal) keep(source string, level logs.Level, line string, shown bool) {
	if j.pipe < 0 {
		return
	}
	r := handoff.Record{T: uptime().Seconds(), Level: int(level), Source: source, Msg: line, Shown: shown}
	if j.dropped > 0 {
		lost := handoff.Record{T: r.T, Level: int(logs.Warn), Source: "init", Msg: fmt.Sprintf("%d messages of process 1 were lost", j.dropped)}
		if !j.send(lost) {
			j.dropped++
			return
		}
		j.dropped = 0
	}
	if !j.send(r) {
		j.dropped++
	}
}

// maxRecord keeps a record within what a pipe takes whole or not at all (pipe(7)).
const maxRecord = 4096

func (j *journal) send(r handoff.Record) bool {
	b := r.Line()
	if len(b) > maxRecord {
		r.Msg = strings.ToValidUTF8(r.Msg[:min(len(r.Msg), maxRecord/8)], "") + " [cut]"
		b = r.Line()
	}
	_, err := unix.Write(j.pipe, b)
	return err == nil
}

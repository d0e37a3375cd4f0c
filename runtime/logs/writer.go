package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/canon"
)

const maxPacking = 1024 // rotated files that wait for compression

const maxUpdateLog = 64 << 10 // bytes of the log of one update

// early is one message kept until the storage is mounted.
type early struct {
	platform string
	record
	text string
}

// writer formats messages and writes them to the outputs. Only the server's writing
// goroutine uses it.
type writer struct {
	o                        Options
	treeTime, oneTime, stamp stamper // of filetree, singlefile and stdout
	printer                  *printer
	complaints               []error

	dir      string // "" until open
	live     string // directory of the revision
	tree     *tree
	keeper   *keeper
	kept     []early
	keptSize int
	keptLost int

	update     *os.File
	updateSize int

	spareText  []byte
	spareHeads []record
	line       []byte // scratch
}

func newWriter(o Options, p *printer) *writer {
	w := &writer{printer: p}
	w.configure(o)
	return w
}

// configure changes the settings; open files stay open.
func (w *writer) configure(o Options) {
	w.o = o
	w.treeTime = w.stamper(o.TreeTime)
	w.oneTime = w.stamper(o.SingleTime)
	w.stamp = w.stamper(o.StdoutTime)
	if w.dir == "" {
		return
	}
	b, err := w.measure()
	if err != nil {
		w.complaints = append(w.complaints, err)
		return
	}
	w.tree.limit = b.Rotate
	w.keeper.setBudget(b)
}

// measure derives the budget from the settings and the partition.
func (w *writer) measure() (Budget, error) {
	capacity, auto, err := capacityOf(w.dir)
	if err != nil {
		return Budget{}, err
	}
	total, err := parseMaxSize(w.o.MaxSize, capacity, auto)
	if err != nil {
		w.complaints = append(w.complaints, fmt.Errorf("%w; using %d bytes", err, total))
	}
	return newBudget(total, w.o.Hysteresis, w.o.Rotate), nil
}

func (w *writer) stamper(format string) stamper {
	s, err := newStamper(format)
	if err != nil {
		w.complaints = append(w.complaints, err)
	}
	return s
}

func (w *writer) takeComplaints() []error {
	list := w.complaints
	w.complaints = nil
	return list
}

// open starts writing files.
func (w *writer) open(dir, revision string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	w.dir, w.complaints = dir, nil
	b, err := w.measure()
	if err != nil {
		w.dir = ""
		return err
	}
	removeLeftovers(dir)
	w.keeper = newKeeper(dir, b)
	w.tree = newTree(b.Rotate, w.keeper)
	if err := w.setRevision(revision); err != nil {
		return err
	}
	w.replay()
	return nil
}

func (w *writer) setRevision(revision string) error {
	if w.dir == "" {
		return errors.New("the log directory is not open yet")
	}
	if !fs.ValidPath(revision) || revision == "." {
		return fmt.Errorf("revision %q is not a valid directory name", revision)
	}
	live := filepath.Join(w.dir, revision)
	if err := os.MkdirAll(live, 0o755); err != nil {
		return err
	}
	w.tree.closeAll()
	w.live, w.tree.live = live, live
	w.keeper.setLive(live)
	return pointTo(filepath.Join(w.dir, "current"), revision)
}

// pointTo makes a symbolic link, replacing an existing one.
func pointTo(link, target string) error {
	if now, err := os.Readlink(link); err == nil && now == target {
		return nil
	}
	next := link + ".next"
	_ = os.Remove(next)
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	return os.Rename(next, link)
}

// replay writes the kept messages to the files.
func (w *writer) replay() {
	kept, lost := w.kept, w.keptLost
	w.kept, w.keptSize, w.keptLost = nil, 0, 0
	if lost > 0 {
		first := record{source: ownSource, level: Warn, wall: time.Now()}
		first.sec, first.nsec = sinceBoot()
		w.toFiles(Runtime, &first, fmt.Appendf(nil, "lost %d messages from before the storage was mounted", lost))
	}
	for i := range kept {
		w.toFiles(kept[i].platform, &kept[i].record, []byte(kept[i].text))
	}
}

// message writes one message to every output.
func (w *writer) message(platform string, r *record, text []byte) {
	w.toStdout(platform, r, text)
	if r.level <= Error && w.update != nil {
		w.toUpdate(platform, r, text)
	}
	switch {
	case w.o.Outputs&(FileTree|SingleFile) == 0:
	case w.dir == "":
		w.keep(platform, r, text)
	default:
		w.toFiles(platform, r, text)
	}
}

// keep keeps a message and drops the oldest ones beyond maxEarly.
func (w *writer) keep(platform string, r *record, text []byte) {
	w.kept = append(w.kept, early{platform, *r, string(text)})
	w.keptSize += len(text) + perMessage
	for w.keptSize > maxEarly {
		w.keptSize -= len(w.kept[0].text) + perMessage
		w.kept[0] = early{}
		w.kept = w.kept[1:]
		w.keptLost++
	}
}

func (w *writer) toStdout(platform string, r *record, text []byte) {
	o := w.o.Outputs
	own := platform == Runtime
	if o&Stdout == 0 && (own && o&StdoutPantavisor == 0 || !own && o&StdoutContainers == 0) {
		return
	}
	if r.shown || own && (o&StdoutDirect != 0 || r.level == Fatal) {
		return // already printed by the caller
	}
	ts := ""
	if w.stamp != nil {
		ts = w.stamp(r.wall)
	}
	for line := range bytes.Lines(text) {
		w.line = appendLine(w.line[:0], platform, r.source, r.level, r.sec, ts, trimEnd(line))
		w.printer.print(w.line)
	}
}

func trimEnd(line []byte) []byte { return bytes.TrimRight(line, "\r\n") }

// appendLine appends a line in the format of the runtime's log file and of standard
// output.
func appendLine[T string | []byte](b []byte, platform, source string, level Level, sec int64, ts string, msg T) []byte {
	b = append(append(append(b, '['), platform...), "] "...)
	b = append(strconv.AppendInt(b, sec, 10), ' ')
	if ts != "" {
		b = append(append(append(b, '['), ts...), "] "...)
	}
	b = append(append(b, level.String()...), "\t -- ["...)
	b = append(append(b, source...), "]: "...)
	return append(append(b, msg...), '\n')
}

func (w *writer) toFiles(platform string, r *record, text []byte) {
	if w.o.Outputs&SingleFile != 0 {
		for line := range bytes.Lines(text) {
			w.tree.write(filepath.Join(w.live, "pv.log"), w.jsonLine(platform, r, trimEnd(line)))
		}
	}
	if w.o.Outputs&FileTree != 0 {
		w.toTree(platform, r, text)
	}
}

func (w *writer) toTree(platform string, r *record, text []byte) {
	if r.form != fromRuntime {
		path := w.tree.path(w.live, platform, r.source)
		if r.form == fromMessage {
			w.line = append(append(w.line[:0], text...), '\n')
			text = w.line
		}
		w.tree.write(path, text)
		return
	}
	ts := ""
	if w.treeTime != nil {
		ts = w.treeTime(r.wall)
	}
	path := filepath.Join(w.live, Runtime, Runtime+".log")
	for line := range bytes.Lines(text) {
		w.line = appendLine(w.line[:0], Runtime, r.source, r.level, r.sec, ts, trimEnd(line))
		w.tree.write(path, w.line)
	}
	if r.level == Fatal {
		w.tree.flush()
	}
}

// jsonLine returns a line of the single file, with fields in the order of the manual's
// example.
func (w *writer) jsonLine(platform string, r *record, text []byte) []byte {
	b := strconv.AppendInt(append(w.line[:0], `{"tsec":`...), r.sec, 10)
	b = strconv.AppendInt(append(b, `,"tnano":`...), r.nsec, 10)
	if w.oneTime != nil {
		b = canon.AppendText(append(b, `,"ts":`...), w.oneTime(r.wall))
	}
	b = canon.AppendText(append(b, `,"platform":`...), platform)
	b = canon.AppendText(append(b, `,"lvl":`...), r.level.String())
	b = canon.AppendText(append(b, `,"src":`...), r.source)
	b = canon.AppendText(append(b, `,"msg":`...), text)
	w.line = append(b, '}', '\n')
	return w.line
}

func (w *writer) startUpdate(dir string) error {
	if w.update != nil {
		if err := w.stopUpdate(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "logs.tmp"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	w.update, w.updateSize = f, 0
	if err != nil {
		w.update = nil
	}
	return err
}

func (w *writer) toUpdate(platform string, r *record, text []byte) {
	for line := range bytes.Lines(text) {
		out := w.jsonLine(platform, r, trimEnd(line))
		if w.updateSize += len(out); w.updateSize > maxUpdateLog {
			return
		}
		_, _ = w.update.Write(out)
	}
}

func (w *writer) stopUpdate() error {
	if w.update == nil {
		return nil
	}
	f := w.update
	w.update = nil
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), strings.TrimSuffix(f.Name(), ".tmp")); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(f.Name()))
}

func (w *writer) dirty() bool { return w.tree != nil && w.tree.dirty }

func (w *writer) flush() {
	if w.tree != nil {
		w.tree.flush()
	}
}

func (w *writer) close() {
	_ = w.stopUpdate()
	if w.tree != nil {
		w.tree.closeAll()
		w.keeper.close()
	}
}

// keeper compresses rotated files and keeps the budget, in its own goroutine.
type keeper struct {
	dir    string
	budget atomic.Pointer[Budget]
	live   atomic.Pointer[string]
	total  atomic.Int64 // estimated bytes in dir
	mark   atomic.Int64 // clean up when total is above
	pack   chan string
	clean  chan struct{}
	done   chan struct{}
}

func newKeeper(dir string, b Budget) *keeper {
	k := &keeper{dir: dir, pack: make(chan string, maxPacking), clean: make(chan struct{}, 1), done: make(chan struct{})}
	_, total := survey(dir)
	k.total.Store(total)
	k.setLive(dir)
	go k.run()
	k.setBudget(b)
	return k
}

// setBudget changes the budget and cleans up when dir exceeds it.
func (k *keeper) setBudget(b Budget) {
	k.budget.Store(&b)
	k.mark.Store(b.High)
	k.grew(0)
}

func (k *keeper) setLive(dir string) { k.live.Store(&dir) }

// grew counts written bytes.
func (k *keeper) grew(n int64) {
	if k.total.Add(n) <= k.mark.Load() {
		return
	}
	select {
	case k.clean <- struct{}{}:
	default:
	}
}

// rotated requests the compression of a file; when too many wait, it is not compressed.
func (k *keeper) rotated(path string) {
	select {
	case k.pack <- path:
	default:
	}
}

func (k *keeper) run() {
	defer close(k.done)
	for {
		select {
		case path, ok := <-k.pack:
			if !ok {
				return
			}
			compress(path)
		case <-k.clean:
			k.cleanUp()
		}
	}
}

// cleanUp reduces the directory to less than Budget.Low. When nothing more may be
// deleted, the next cleanup waits until the directory has grown notably.
func (k *keeper) cleanUp() {
	b := *k.budget.Load()
	total := cleanUp(k.dir, *k.live.Load(), b.Low)
	k.total.Store(total)
	k.mark.Store(max(b.High, total+(b.Total-b.Low)/8))
}

func (k *keeper) close() {
	close(k.pack)
	<-k.done
}

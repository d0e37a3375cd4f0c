package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
)

// Bounds of open files and of what a container may create.
const (
	maxOpen    = 64       // files open at the same time
	fileBuffer = 16 << 10 // bytes buffered of each file
	maxSources = 64       // files of one container; further sources share one file
	maxDepth   = 8        // directories in a source's name
	maxPart    = 200      // bytes of the name of one of them
	maxLimits  = 512      // files with their own limit
	minRotate  = 16 << 10 // smallest limit of a file in bytes: each rotation starts a compression
)

// overflowSource takes the messages of the sources beyond maxSources.
const overflowSource = "other"

// tree manages the files of the running revision.
type tree struct {
	live    string           // directory of the revision
	limit   int64            // size at which a file is rotated
	limits  map[string]int64 // limits of single files, by path below live
	keeper  *keeper
	open    map[string]*logFile
	clock   int64
	dirty   bool
	free    [][]byte
	sources map[string]map[string]string // platform, source as sent: path below the platform
}

type logFile struct {
	f    *os.File
	path string
	size int64
	max  int64 // rotated at this size; 0 is the tree's limit
	buf  []byte
	used int64
}

func newTree(limit int64, k *keeper) *tree {
	return &tree{limit: limit, limits: map[string]int64{}, keeper: k, open: map[string]*logFile{}, sources: map[string]map[string]string{}}
}

// path returns the file of a source. Containers choose the names, but the file is always
// below the platform's directory.
func (t *tree) path(live, platform, source string) string {
	known := t.sources[platform]
	if known == nil {
		known = map[string]string{}
		t.sources[platform] = known
	}
	rel, ok := known[source]
	if !ok {
		rel = overflowSource
		if len(known) < maxSources {
			rel = cleanSource(source)
			known[source] = rel
		}
	}
	return filepath.Join(live, cleanPart(platform), rel)
}

// setLimit sets a smaller size at which one file is rotated.
func (t *tree) setLimit(platform, source string, size int64) {
	rel := filepath.Join(cleanPart(platform), cleanSource(source))
	delete(t.limits, rel)
	if size > 0 && len(t.limits) < maxLimits {
		t.limits[rel] = max(size, minRotate)
	}
	if f := t.open[filepath.Join(t.live, rel)]; f != nil {
		f.max = t.limits[rel]
	}
}

// cleanSource turns a source's name into a relative path, "/var/log/messages" into
// "var/log/messages". It appends "_" to a name that looks like a rotated file.
func cleanSource(source string) string {
	var parts []string
	for part := range strings.SplitSeq(source, "/") {
		if part != "" && part != "." && len(parts) < maxDepth {
			parts = append(parts, cleanPart(part))
		}
	}
	if len(parts) == 0 {
		return fallbackSource
	}
	last := &parts[len(parts)-1]
	if ext := filepath.Ext(*last); ext == ".gz" || ext != "" && isNumber(ext[1:]) {
		*last += "_"
	}
	return filepath.Join(parts...)
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// cleanPart turns a text into one valid name of a directory or file.
func cleanPart(part string) string {
	part = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '/' || c == '\ufffd' {
			return '_'
		}
		return c
	}, part)
	if part == "" || part[0] == '.' {
		part = "_" + part
	}
	return strings.ToValidUTF8(part[:min(len(part), maxPart)], "")
}

// write appends to a file, through its buffer.
func (t *tree) write(path string, text []byte) {
	f, err := t.file(path)
	if err != nil {
		return // the error cannot be logged
	}
	if f.buf == nil {
		f.buf = t.buffer()
	}
	if len(f.buf)+len(text) > cap(f.buf) {
		t.flushFile(f)
		if len(text) >= fileBuffer {
			t.store(f, text)
			return
		}
		f.buf = t.buffer()
	}
	f.buf = append(f.buf, text...)
	t.dirty = true
}

func (t *tree) buffer() []byte {
	if n := len(t.free); n > 0 {
		b := t.free[n-1]
		t.free = t.free[:n-1]
		return b
	}
	return make([]byte, 0, fileBuffer)
}

func (t *tree) file(path string) (*logFile, error) {
	t.clock++
	if f := t.open[path]; f != nil {
		f.used = t.clock
		return f, nil
	}
	if len(t.open) >= maxOpen {
		t.closeOldest()
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, f.Close(), fmt.Errorf("%s is not a plain file", path))
	}
	l := &logFile{f: f, path: path, size: st.Size(), max: t.limits[strings.TrimPrefix(path, t.live+"/")], used: t.clock}
	t.open[path] = l
	return l, nil
}

func (t *tree) closeOldest() {
	var oldest *logFile
	for _, f := range t.open {
		if oldest == nil || f.used < oldest.used {
			oldest = f
		}
	}
	t.closeFile(oldest)
}

func (t *tree) closeFile(f *logFile) {
	t.flushFile(f)
	_ = f.f.Close()
	delete(t.open, f.path)
}

func (t *tree) closeAll() {
	for _, f := range t.open {
		t.closeFile(f)
	}
	clear(t.sources)
	t.dirty = false
}

// flush writes the buffers of all files.
func (t *tree) flush() {
	for _, f := range t.open {
		t.flushFile(f)
	}
	t.dirty = false
	keep := min(len(t.free), 8)
	clear(t.free[keep:])
	t.free = t.free[:keep]
}

func (t *tree) flushFile(f *logFile) {
	if f.buf == nil {
		return
	}
	buf := f.buf
	f.buf = nil
	t.store(f, buf)
	t.free = append(t.free, buf[:0])
}

// store writes to a file, and rotates it when it is too large. When the disk is full,
// the text is lost, and store requests a cleanup.
func (t *tree) store(f *logFile, text []byte) {
	n, err := f.f.Write(text)
	f.size += int64(n)
	t.keeper.grew(int64(n))
	if errors.Is(err, unix.ENOSPC) {
		t.keeper.full()
	}
	if f.size >= t.limit || f.max > 0 && f.size >= f.max {
		t.rotate(f)
	}
}

// rotate renames a file to FILE.N, with N one more than the highest existing number, and
// requests its compression.
func (t *tree) rotate(f *logFile) {
	_ = f.f.Close()
	delete(t.open, f.path)
	next := f.path + "." + strconv.Itoa(highest(f.path)+1)
	if os.Rename(f.path, next) == nil {
		t.keeper.rotated(next)
	}
}

func highest(path string) int {
	names, _ := filepath.Glob(escapeGlob(path) + ".*")
	top := 0
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, path+"."), ".gz"))
		if err == nil {
			top = max(top, n)
		}
	}
	return top
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// full requests a cleanup when the disk is full although the budget is not used up.
func (k *keeper) full() {
	k.mark.Store(0)
	k.grew(0)
}

// compress replaces path by path.gz. A file that cannot be compressed stays.
func compress(path string) {
	if err := gzipFile(path); err == nil {
		_ = os.Remove(path)
	}
}

func gzipFile(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := atomicfile.Create(path+".gz", 0o644)
	if err != nil {
		return err
	}
	defer out.Abort()
	z := gzip.NewWriter(out)
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Commit()
}

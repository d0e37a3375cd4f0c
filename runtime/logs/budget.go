package logs

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Budget is how much storage the log directory may take, and the limits derived from it
// (manual: log directory size management).
type Budget struct {
	Total  int64 // of all log files
	High   int64 // clean up above it
	Low    int64 // clean up until below it
	Rotate int64 // size at which one file is rotated
}

// Defaults of the factors.
const (
	defaultHysteresis = 4
	defaultRotate     = 5
)

// units are the suffixes of PV_LOG_DIR_MAXSIZE.
var units = map[string]int64{
	"": 1, "B": 1, "K": 1 << 10, "KB": 1e3, "M": 1 << 20, "MB": 1e6,
	"G": 1 << 30, "GB": 1e9, "T": 1 << 40, "TB": 1e12,
}

// parseMaxSize reads PV_LOG_DIR_MAXSIZE for a partition of capacity bytes: bytes with
// an optional unit, a percentage, or 0 for auto. For any other value, or one larger than
// the partition, it returns auto and an error.
func parseMaxSize(text string, capacity, auto int64) (int64, error) {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "%BbKkMmGgTt")
	unit := strings.ToUpper(text[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	factor, known := units[unit]
	switch {
	case text == "" || err == nil && n == 0 && (known || unit == "%"):
		return auto, nil
	case err != nil || n < 0 || !known && unit != "%":
		return auto, fmt.Errorf("reading PV_LOG_DIR_MAXSIZE %q: write bytes, a number with K, KB, M, MB, G, GB, T or TB, a percentage, or 0 for automatic", text)
	case unit == "%" && n <= 100:
		return capacity / 100 * n, nil
	case unit == "%" || n > capacity/factor:
		return auto, fmt.Errorf("reading PV_LOG_DIR_MAXSIZE %q: the partition has %d bytes", text, capacity)
	}
	return n * factor, nil
}

// newBudget derives the limits. Factors below 1 mean the defaults.
func newBudget(total int64, hysteresis, rotate int) Budget {
	if hysteresis < 1 {
		hysteresis = defaultHysteresis
	}
	if rotate < 1 {
		rotate = defaultRotate
	}
	gap := total / int64(hysteresis)
	return Budget{Total: total, High: total / 10 * 9, Low: total - gap, Rotate: max(gap/int64(rotate), 1)}
}

// capacityOf returns the size of the partition that holds dir and the automatic
// budget: all of a tmpfs, a tenth of anything else.
func capacityOf(dir string) (capacity, auto int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("reading the size of the partition of %s: %w", dir, err)
	}
	capacity = int64(st.Blocks * uint64(st.Bsize))
	if int64(st.Type) == unix.TMPFS_MAGIC { //nolint:unconvert // 32 bits wide on some architectures
		return capacity, capacity, nil
	}
	return capacity, capacity / 10, nil
}

// logged is one file below the log directory.
type logged struct {
	path   string
	size   int64
	number int // of a rotated file; -1 for a live one
	age    int64
}

// survey lists the log files below dir, without temporary files that are being written.
func survey(dir string) (files []logged, total int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || isTemporary(d.Name()) {
			return nil //nolint:nilerr // a removed file takes no space
		}
		st, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		name := strings.TrimSuffix(path, ".gz")
		number := -1
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			if n, err := strconv.Atoi(name[i+1:]); err == nil && n >= 0 {
				number = n
			}
		}
		files = append(files, logged{path, st.Size(), number, st.ModTime().UnixNano()})
		total += st.Size()
		return nil
	})
	return files, total
}

// isTemporary reports whether a file is a temporary file of package atomicfile.
func isTemporary(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, ".tmp-")
}

// removeLeftovers removes what an interrupted compression left below dir.
func removeLeftovers(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && isTemporary(d.Name()) {
			_ = os.Remove(path)
		}
		return nil
	})
}

// cleanUp deletes files below dir until they take less than low, and returns their
// remaining size. It deletes rotated files first, the lowest number of the largest
// directory, compressed or not; then files of other revisions than live.
func cleanUp(dir, live string, low int64) int64 {
	files, total := survey(dir)
	for _, want := range []func(*logged) bool{
		func(f *logged) bool { return f.number >= 0 },
		func(f *logged) bool { return !strings.HasPrefix(f.path, live+string(filepath.Separator)) },
	} {
		for total >= low {
			i := nextVictim(files, want)
			if i < 0 {
				break
			}
			if os.Remove(files[i].path) == nil {
				total -= files[i].size
			}
			files = slices.Delete(files, i, i+1)
		}
	}
	return total
}

// nextVictim returns the index of the oldest file that want accepts in the largest
// directory that has one.
func nextVictim(files []logged, want func(*logged) bool) int {
	weight := map[string]int64{}
	for _, f := range files {
		weight[filepath.Dir(f.path)] += f.size
	}
	best := -1
	for i := range files {
		if want(&files[i]) && (best < 0 || worse(&files[i], &files[best], weight)) {
			best = i
		}
	}
	return best
}

func worse(a, b *logged, weight map[string]int64) bool {
	wa, wb := weight[filepath.Dir(a.path)], weight[filepath.Dir(b.path)]
	return cmp.Or(cmp.Compare(wb, wa), cmp.Compare(a.number, b.number), cmp.Compare(a.age, b.age), cmp.Compare(a.path, b.path)) < 0
}

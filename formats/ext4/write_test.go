package ext4

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// options are those of the storage of an image.
func options(size int64) Options {
	return Options{
		Size: size, Journal: 4 << 20, InodeRatio: 16384, Reserved: 1, Label: "pvroot",
		UUID:     [16]byte{1, 2, 3, 4, 5, 6, 0x87, 8, 0x89, 10, 11, 12, 13, 14, 15, 16},
		HashSeed: [16]byte{21, 22, 23, 24, 25, 26, 0x87, 28, 0x89, 30, 31, 32, 33, 34, 35, 36},
		Time:     time.Unix(1_700_000_000, 0),
	}
}

// write makes a file system in a new file.
func write(t testing.TB, o Options, entries ...tree.Entry) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	f, err := os.Create(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(o.Size); err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), f, entries, o); err != nil {
		t.Fatal(err)
	}
	return img
}

// check has e2fsck look for errors.
func check(t testing.TB, img string) {
	t.Helper()
	if out, err := exec.Command(oracle.Program(t, "e2fsck"), "-fn", img).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// mount mounts a file system until the test ends, or until the returned function is called.
func mount(t testing.TB, img, options string) (dir string, unmount func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	dir = t.TempDir()
	command(t, "mount", "-t", "ext4", "-o", "loop"+options, img, dir)
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			command(t, "umount", dir)
			released(t, img)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// released waits until a file is no longer a loop device: a mount namespace that another
// program made has the mount as well, for as long as it lives.
func released(t testing.TB, img string) {
	t.Helper()
	for range 600 {
		if command(t, "losetup", "-j", img) == "" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s is still mounted in another mount namespace", img)
}

// command runs a program.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(oracle.Program(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// seen is what is compared of a file.
type seen struct {
	Mode         fs.FileMode
	UID, GID     uint32
	Time         time.Time
	Link, First  string // First is the first name of the file
	Major, Minor uint32
	Xattrs       map[string][]byte
	Size         int64
	Content      string
}

func see(t testing.TB, e *tree.Entry) seen {
	t.Helper()
	s := seen{
		Mode: e.Mode, UID: e.UID, GID: e.GID, Time: e.ModTime.UTC(), Link: e.Link, First: e.HardLink,
		Major: e.Major, Minor: e.Minor, Xattrs: maps.Clone(e.Xattrs), Size: e.Size,
	}
	if e.Mode.Type() == fs.ModeSymlink {
		s.Mode = fs.ModeSymlink | 0o777
	}
	if len(s.Xattrs) == 0 {
		s.Xattrs = nil
	}
	if e.Open == nil {
		return s
	}
	r, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	s.Content = string(data)
	return s
}

// compare compares a mounted file system with the entries it was made of.
func compare(t testing.TB, dir string, entries []tree.Entry) {
	t.Helper()
	compareWith(t, entries, func(do func(tree.Entry) error) error {
		return tree.Walk(t.Context(), dir, tree.Options{Xattrs: true}, do)
	})
}

// compareWith compares what walk finds with the entries.
func compareWith(t testing.TB, entries []tree.Entry, walk func(do func(tree.Entry) error) error) {
	t.Helper()
	want := map[string]seen{}
	links := map[string]uint64{}
	for i := range entries {
		e := entries[i]
		links[e.Name]++
		if e.HardLink != "" {
			links[e.HardLink]++
			first := e.HardLink
			e = entries[slices.IndexFunc(entries, func(o tree.Entry) bool { return o.Name == first })]
			e.HardLink = first
		}
		want[entries[i].Name] = see(t, &e)
	}
	got := map[string]seen{}
	err := walk(func(e tree.Entry) error {
		if e.Name != "." && e.Name != lostFound || want[e.Name].Mode != 0 {
			got[e.Name] = see(t, &e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The walk has names in byte order, the entries have not: any name may be the first one.
	canonical(want)
	canonical(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("not what was written (-want +got):\n%.3000s", diff)
	}
}

// canonical makes the first of the sorted names of a file the first one.
func canonical(files map[string]seen) {
	least := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		first := files[name].First
		if first == "" {
			first = name
		}
		if _, there := least[first]; !there {
			least[first] = name
		}
	}
	for name, s := range files {
		first := s.First
		if first == "" {
			first = name
		}
		s.First = least[first]
		files[name] = s
	}
}

// random makes trees from a seed.
type random struct {
	*rand.Rand
	dirs    []string
	files   []string
	entries []tree.Entry
	names   map[string]bool
}

func randomTree(seed uint64, size int) []tree.Entry {
	r := &random{Rand: rand.New(rand.NewPCG(seed, 1)), dirs: []string{"."}, names: map[string]bool{}}
	if r.IntN(2) == 0 {
		r.add(tree.Dir(".", 0o751))
	}
	for range r.IntN(size + 1) {
		r.one()
	}
	return r.entries
}

func (r *random) add(e tree.Entry) {
	if r.names[e.Name] {
		return
	}
	r.names[e.Name] = true
	e.UID, e.GID = r.id(), r.id()
	e.ModTime = time.Unix(r.Int64N(math.MaxInt64/int64(time.Second)-earliest)+earliest, r.Int64N(1e9)).UTC() // those that the walk knows
	if r.IntN(4) == 0 {
		e.Xattrs = r.attributes(e.Mode)
	}
	r.entries = append(r.entries, e)
	if e.Mode.IsDir() {
		r.dirs = append(r.dirs, e.Name)
	} else {
		r.files = append(r.files, e.Name)
	}
}

func (r *random) id() uint32 { return []uint32{0, 1000, 65534, 65536, 1 << 31, 1<<32 - 2}[r.IntN(6)] }

func (r *random) name() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_. \xff\xc3\xa4"
	n := 1 + r.IntN(12)
	if r.IntN(20) == 0 {
		n = 255
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	if b[0] == '.' {
		b[0] = 'x'
	}
	return path.Join(r.dirs[r.IntN(len(r.dirs))], string(b))
}

func (r *random) attributes(m fs.FileMode) map[string][]byte {
	out := map[string][]byte{}
	for range 1 + r.IntN(4) {
		space := []string{"trusted.", "security.", "user."}[r.IntN(3)]
		if space == "user." && !m.IsRegular() && !m.IsDir() {
			space = "trusted."
		}
		out[space+fmt.Sprint("name", r.IntN(1000))] = r.bytes(r.IntN(150))
	}
	if m.IsRegular() && r.IntN(2) == 0 {
		out["security.capability"] = []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	}
	return out
}

func (r *random) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// content returns data with blocks of zeros in it.
func (r *random) content() []byte {
	var out []byte
	for range r.IntN(12) {
		if r.IntN(2) == 0 {
			out = append(out, make([]byte, r.IntN(9000))...)
		} else {
			out = append(out, r.bytes(r.IntN(5000))...)
		}
	}
	return out
}

func (r *random) one() {
	name, perm := r.name(), fs.FileMode(r.IntN(0o1000))
	if r.IntN(8) == 0 {
		perm |= []fs.FileMode{fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky}[r.IntN(3)]
	}
	switch kind := r.IntN(12); {
	case kind < 3:
		r.add(tree.Dir(name, perm))
	case kind == 3:
		r.add(tree.Symlink(name, string(bytes.Repeat([]byte("t/"), 1+r.IntN(60)))))
	case kind == 4 && len(r.files) > 0:
		if !r.names[name] {
			r.names[name] = true
			to := r.files[r.IntN(len(r.files))]
			r.entries = append(r.entries, tree.Entry{Name: name, HardLink: to})
		}
	case kind == 5:
		r.add(tree.Entry{Name: name, Mode: fs.ModeDevice | fs.ModeCharDevice | perm, Major: uint32(r.IntN(4096)), Minor: uint32(r.IntN(1 << 20))})
	case kind == 6:
		r.add(tree.Entry{Name: name, Mode: []fs.FileMode{fs.ModeNamedPipe, fs.ModeSocket, fs.ModeDevice}[r.IntN(3)] | perm})
	case kind == 7 && r.IntN(6) == 0:
		r.many(name)
	default:
		r.add(tree.Bytes(name, perm, r.content()))
	}
}

// many makes a directory with an index.
func (r *random) many(name string) {
	r.add(tree.Dir(name, 0o755))
	for i := range r.IntN(900) {
		r.add(tree.Bytes(path.Join(name, fmt.Sprint(strings.Repeat("n", r.IntN(40)), i)), 0o644, []byte{1}))
	}
}

// randomOptions varies what can be.
func randomOptions(seed uint64) Options {
	r := rand.New(rand.NewPCG(seed, 2))
	o := options(16<<20 + r.Int64N(100<<20))
	o.BlockSize = []int{1024, 2048, 4096}[r.IntN(3)]
	o.InodeRatio = []int64{1024, 4096, 4096, 10000}[r.IntN(4)]
	if r.IntN(4) == 0 {
		o.Journal = 0
	}
	if r.IntN(4) == 0 {
		o.HashSeed = [16]byte{}
	}
	return o
}

// TestRandomTrees has e2fsck judge file systems of random trees; some are mounted and
// compared.
func TestRandomTrees(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			entries := randomTree(seed, 120)
			img := write(t, randomOptions(seed), entries...)
			check(t, img)
			if seed%8 == 0 && !t.Failed() {
				dir, _ := mount(t, img, ",ro")
				compare(t, dir, entries)
			}
		})
	}
}

package logs

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// screen is a standard output that can be looked at.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// start returns a server that writes below dir for revision "0".
func start(t *testing.T, o Options) (s *Server, dir string) {
	t.Helper()
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Level == 0 {
		o.Level = Debug
	}
	dir = filepath.Join(t.TempDir(), "logs")
	s = New(o)
	t.Cleanup(s.Close) // before the directory is removed
	if err := s.Open(dir, "0"); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// masked hides the seconds of lines.
func masked(text string) string {
	return regexp.MustCompile(`(?m)^(\[[^]]+\]) \d+ `).ReplaceAllString(text, "$1 N ")
}

func TestFileTree(t *testing.T) {
	s, dir := start(t, Options{})
	Logger{Sink: s, Source: "engine"}.Infof("started %d", 2)
	Logger{Sink: s, Source: "engine"}.Errorf("two\nlines")
	s.Log("app", "/var/log/messages", Info, "of a container")
	s.put("app", "lxc/console.log", Info, fromStream, []byte("raw\r\nbytes\n"))
	s.Flush()
	if diff := cmp.Diff("[pantavisor] N INFO\t -- [engine]: started 2\n[pantavisor] N ERROR\t -- [engine]: two\n[pantavisor] N ERROR\t -- [engine]: lines\n",
		masked(read(t, dir, "0/pantavisor/pantavisor.log"))); diff != "" {
		t.Errorf("the runtime's file (-want +got):\n%s", diff)
	}
	if got := read(t, dir, "0/app/var/log/messages"); got != "of a container\n" {
		t.Errorf("message = %q", got)
	}
	if got := read(t, dir, "0/app/lxc/console.log"); got != "raw\r\nbytes\n" {
		t.Errorf("console = %q", got)
	}
	if target, err := os.Readlink(filepath.Join(dir, "current")); err != nil || target != "0" {
		t.Errorf("current -> %q, %v", target, err)
	}
}

func TestSingleFile(t *testing.T) {
	s, dir := start(t, Options{Outputs: SingleFile | nullSink, SingleTime: "strftime:%Y", Absolute: true})
	s.Log("app", "out", Warn, "a \"quoted\" <line>\xff\nsecond")
	s.Flush()
	if _, err := os.Stat(filepath.Join(dir, "0/app")); err == nil {
		t.Error("a tree was written although only a single file was asked for")
	}
	var got []map[string]any
	for line := range strings.Lines(read(t, dir, "0/pv.log")) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if sec := m["tsec"].(float64); sec < 1e9 {
			t.Errorf("tsec = %v, want seconds since 1970", sec)
		}
		delete(m, "tsec")
		delete(m, "tnano")
		got = append(got, m)
	}
	year := fmt.Sprint(time.Now().Year())
	want := []map[string]any{
		{"ts": year, "platform": "app", "lvl": "WARN", "src": "out", "msg": "a \"quoted\" <line>\ufffd"},
		{"ts": year, "platform": "app", "lvl": "WARN", "src": "out", "msg": "second"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pv.log (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(read(t, dir, "0/pv.log"), `{"tsec":`) {
		t.Error("keys are not in their order")
	}
}

func TestStandardOutputs(t *testing.T) {
	own, its := "[pantavisor] N INFO\t -- [x]: own\n", "[app] N INFO\t -- [out]: its\n"
	fatal := "[pantavisor] N FATAL\t -- [x]: end\n"
	tests := []struct {
		out  Output
		want []string
	}{
		{Stdout, []string{own, its, fatal}},
		{StdoutPantavisor, []string{own, fatal}},
		{StdoutContainers, []string{its, fatal}},
		{StdoutContainers | StdoutPantavisor | FileTree, []string{own, its, fatal}},
		{StdoutDirect, []string{own, fatal}},
		{StdoutDirect | Stdout, []string{own, its, fatal}},
		{nullSink, []string{fatal}},
	}
	for _, tt := range tests {
		var out screen
		s, _ := start(t, Options{Outputs: tt.out, Stdout: &out})
		log := Logger{Sink: s, Source: "x"}
		log.Infof("own")
		s.Log("app", "out", Info, "its")
		log.Fatalf("end")
		s.Close()
		got := masked(out.String())
		for _, line := range tt.want {
			if strings.Count(got, line) != 1 {
				t.Errorf("%s: %q is there %d times in %q", tt.out, line, strings.Count(got, line), got)
			}
		}
		if n := strings.Count(got, "\n"); n != len(tt.want) {
			t.Errorf("%s: %d lines, want %d: %q", tt.out, n, len(tt.want), got)
		}
	}
}

// What process 1 has printed is not printed again; what it has not is, and the
// files hold both with the time that they came at.
func TestRelay(t *testing.T) {
	var out screen
	s, dir := start(t, Options{Outputs: FileTree | Stdout, Stdout: &out, Level: Debug})
	s.Relay("init", Info, "shown", 1900*time.Millisecond, true)
	s.Relay("init", Debug, "not shown", 2*time.Second, false)
	s.Relay("init", Trace, "not at this level", 2*time.Second, false)
	s.Flush()
	unseen := "[pantavisor] 2 DEBUG\t -- [init]: not shown\n"
	if got := out.String(); got != unseen {
		t.Errorf("standard output = %q, want %q", got, unseen)
	}
	want := "[pantavisor] 1 INFO\t -- [init]: shown\n" + unseen
	if got := read(t, dir, "0/pantavisor/pantavisor.log"); got != want {
		t.Errorf("file = %q, want %q", got, want)
	}
}

func TestRelayKeepsTheWallClockOfTheMessage(t *testing.T) {
	s, dir := start(t, Options{Absolute: true})
	s.Relay("init", Info, "at the start of the machine", 0, true)
	s.Flush()
	var got int64
	if _, err := fmt.Sscanf(read(t, dir, "0/pantavisor/pantavisor.log"), "[pantavisor] %d", &got); err != nil {
		t.Fatal(err)
	}
	sec, _ := sinceBoot()
	if began := time.Now().Unix() - sec; got < began-2 || got > began+2 {
		t.Errorf("the message is of second %d, the machine started in %d", got, began)
	}
}

func TestLevels(t *testing.T) {
	s, dir := start(t, Options{Level: Warn})
	log := Logger{Sink: s, Source: "x"}
	log.Infof("no")
	log.Warnf("yes")
	s.Configure(Options{Level: Info})
	log.Infof("now")
	s.Configure(Options{Level: Fatal})
	log.Errorf("no more")
	log.Fatalf("always")
	s.Log("app", "out", Debug, "not filtered")
	s.Flush()
	got := masked(read(t, dir, "0/pantavisor/pantavisor.log"))
	want := "[pantavisor] N WARN\t -- [x]: yes\n[pantavisor] N INFO\t -- [x]: now\n[pantavisor] N FATAL\t -- [x]: always\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if read(t, dir, "0/app/out") != "not filtered\n" {
		t.Error("the level of the runtime filtered a container")
	}
}

func TestEarlyMessagesAreReplayed(t *testing.T) {
	dir := t.TempDir()
	s := New(Options{Stdout: io.Discard, Level: Debug})
	t.Cleanup(s.Close)
	for i := range 5000 {
		Logger{Sink: s, Source: "init"}.Infof("message %d %s", i, strings.Repeat("x", 100))
		if i%100 == 0 {
			s.Flush()
		}
	}
	if err := s.Open(dir, "locals/first"); err != nil {
		t.Fatal(err)
	}
	Logger{Sink: s, Source: "init"}.Infof("after")
	s.Flush()
	got := read(t, dir, "current/pantavisor/pantavisor.log")
	first := strings.Split(got, "\n")[0]
	if !strings.Contains(first, "messages from before the storage was mounted") {
		t.Errorf("first line %q, want how many are lost", first)
	}
	if !strings.Contains(got, "message 4999 ") || strings.Contains(got, "message 0 ") || !strings.HasSuffix(got, "after\n") {
		t.Error("not the newest messages were kept, or not in their order")
	}
	if len(got) > maxEarly+4096 {
		t.Errorf("%d bytes kept, bound is %d", len(got), maxEarly)
	}
}

func TestRevisionChange(t *testing.T) {
	s, dir := start(t, Options{})
	s.Log("app", "out", Info, "one")
	if err := s.SetRevision("locals/next"); err != nil {
		t.Fatal(err)
	}
	s.Log("app", "out", Info, "two")
	s.Flush()
	if read(t, dir, "0/app/out") != "one\n" || read(t, dir, "locals/next/app/out") != "two\n" || read(t, dir, "current/app/out") != "two\n" {
		t.Error("messages are not with their revision")
	}
	for _, bad := range []string{"", "..", "../x", "/etc", "a//b", "."} {
		if err := s.SetRevision(bad); err == nil {
			t.Errorf("revision %q was taken", bad)
		}
	}
}

// blockedWriter is an output that takes nothing until it is released.
type blockedWriter struct{ free chan struct{} }

func (s blockedWriter) Write(p []byte) (int, error) { <-s.free; return len(p), nil }

func TestFloodLosesItsOwnLines(t *testing.T) {
	s, dir := start(t, Options{})
	// While the writing goroutine is held, queues fill.
	held, release := make(chan struct{}), make(chan struct{})
	go s.do(func() { close(held); <-release })
	<-held
	line := strings.Repeat("f", 99)
	const flood = 20000
	for range flood {
		s.Log("flood", "out", Info, line)
	}
	for i := range 100 {
		s.Log("calm", "out", Info, fmt.Sprint("line ", i))
	}
	close(release)
	s.Flush()
	calm := read(t, dir, "0/calm/out")
	if strings.Count(calm, "\n") != 100 || !strings.HasPrefix(calm, "line 0\n") || strings.Contains(calm, "lost") {
		t.Errorf("the calm container has %d lines, want its 100", strings.Count(calm, "\n"))
	}
	got := read(t, dir, "0/flood/out")
	kept := strings.Count(got, line+"\n")
	var lost int
	if _, err := fmt.Sscanf(got[strings.Index(got, "-- "):], "-- %d lines lost here", &lost); err != nil {
		t.Fatalf("the flood's file does not say what is lost: %v", err)
	}
	if kept+lost != flood || kept == 0 || lost == 0 {
		t.Errorf("%d kept and %d lost are not %d", kept, lost, flood)
	}
	if len(got) > 2*defaultBuf<<10+1024 {
		t.Errorf("%d bytes were held for one container, bound is %d", len(got), 2*defaultBuf<<10)
	}
	if own := read(t, dir, "0/pantavisor/pantavisor.log"); !strings.Contains(own, fmt.Sprintf("flood lost %d lines", lost)) {
		t.Errorf("the runtime's log does not count the loss: %q", own)
	}
}

func TestStuckConsoleHoldsUpNobody(t *testing.T) {
	out := blockedWriter{make(chan struct{})}
	s, dir := start(t, Options{Outputs: FileTree | Stdout, Stdout: out})
	for range 5000 {
		s.Log("app", "out", Info, strings.Repeat("x", 80))
		if len(s.wake) > 0 {
			s.do(func() {})
		}
	}
	s.do(s.w.flush)
	if n := strings.Count(read(t, dir, "0/app/out"), "\n"); n != 5000 {
		t.Errorf("%d lines in the file, want 5000 although the console is stuck", n)
	}
	close(out.free)
}

func TestRotationAndCompression(t *testing.T) {
	// 100 kB in all: gap 25 kB, rotated at 5 kB.
	s, dir := start(t, Options{MaxSize: "100000"})
	var want strings.Builder
	for i := range 300 {
		line := fmt.Sprintf("%04d %s\n", i, strings.Repeat("r", 50))
		want.WriteString(line)
		s.put("app", "out", Info, fromStream, []byte(line))
		s.Flush()
	}
	s.Close()
	got := ""
	for n := 1; ; n++ {
		text, err := unzip(filepath.Join(dir, fmt.Sprintf("0/app/out.%d.gz", n)))
		if err != nil {
			if n < 3 {
				t.Fatalf("rotated file %d: %v", n, err)
			}
			break
		}
		if len(text) < 5000 || len(text) > 5100 {
			t.Errorf("rotated file %d has %d bytes, want 5000 and the rest of a line", n, len(text))
		}
		got += text
	}
	got += read(t, dir, "0/app/out")
	if got != want.String() {
		t.Errorf("the rotated files hold %d bytes, want all %d in order", len(got), want.Len())
	}
}

func TestLimitOfOneFile(t *testing.T) {
	s, dir := start(t, Options{MaxSize: "100000000"})
	s.Limit("app", "lxc/console.log", 100) // at least minRotate
	for _, source := range []string{"lxc/console.log", "other"} {
		s.put("app", source, Info, fromStream, []byte("small\n"))
		s.Flush()
		s.put("app", source, Info, fromStream, bytes.Repeat([]byte("x\n"), minRotate/2))
		s.Flush()
		s.put("app", source, Info, fromStream, []byte("next\n"))
	}
	s.Close()
	if got := read(t, dir, "0/app/lxc/console.log"); got != "next\n" {
		t.Errorf("the limited file has %d bytes", len(got))
	}
	if text, err := unzip(filepath.Join(dir, "0/app/lxc/console.log.1.gz")); err != nil || len(text) != minRotate+6 {
		t.Errorf("the rotated file has %d bytes, %v", len(text), err)
	}
	if got := read(t, dir, "0/app/other"); len(got) != minRotate+11 {
		t.Errorf("the other file has %d bytes", len(got))
	}
}

func unzip(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(z)
	return string(text), err
}

func TestBudgetIsKept(t *testing.T) {
	const total = 200_000
	s, dir := start(t, Options{MaxSize: fmt.Sprint(total)})
	// Text that does not compress, so that the budget is reached.
	noise := make([]byte, 3000)
	state := uint32(1)
	for range 1000 {
		for i := range noise {
			state = state*1664525 + 1013904223
			noise[i] = ' ' + byte(state>>24)%90
		}
		s.put("app", "out", Info, fromStream, append(bytes.Clone(noise), '\n'))
		s.Flush()
	}
	s.Close()
	// The housekeeping follows the writer; a file being rotated and one being compressed come on top.
	if _, got := survey(dir); got > total {
		t.Errorf("the log directory has %d bytes, budget is %d", got, total)
	}
	if matches, _ := filepath.Glob(filepath.Join(dir, "0/app/out.*.gz")); len(matches) == 0 {
		t.Error("all rotated files are gone")
	}
}

func TestCleanUpOrder(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{
		"0/big/a": 100, "0/big/a.1.gz": 300, "0/big/a.2.gz": 300, "0/big/a.10.gz": 300,
		"0/small/b.1.gz": 200, "0/small/b.3": 50, "old/x/c": 70, "0/live": 10,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, gone := range []string{"0/big/a.1.gz", "0/big/a.2.gz", "0/big/a.10.gz", "0/small/b.1.gz", "0/small/b.3", "old/x/c"} {
		_, before := survey(dir)
		left := cleanUp(dir, filepath.Join(dir, "0"), before)
		if _, err := os.Stat(filepath.Join(dir, gone)); err == nil {
			t.Fatalf("%s should have gone next", gone)
		}
		if _, now := survey(dir); now != left || now >= before {
			t.Errorf("after %s went: %d bytes are there, %d were said", gone, now, left)
		}
	}
	if left := cleanUp(dir, filepath.Join(dir, "0"), 0); left != 110 {
		t.Errorf("%d bytes left, want the live files' 110", left)
	}
}

func TestParseMaxSize(t *testing.T) {
	const capacity, auto = 1000_000_000, 7
	tests := []struct {
		text string
		want int64
		bad  bool
	}{
		{"0", auto, false}, {"", auto, false}, {"0%", auto, false}, {"0MB", auto, false},
		{"16777216", 16777216, false}, {"512K", 512 << 10, false}, {"512kb", 512_000, false}, {"3B", 3, false},
		{"256MB", 256e6, false}, {"1M", 1 << 20, false}, {"20%", capacity / 5, false}, {"1GB", 1e9, false},
		{"1G", auto, true}, {"2GB", auto, true}, {"101%", auto, true}, {"-5", auto, true}, {"5 apples", auto, true},
		{"99999999999999999999", auto, true}, {"9223372036854775807TB", auto, true}, {"%", auto, true}, {"5MK", auto, true},
	}
	for _, tt := range tests {
		got, err := parseMaxSize(tt.text, capacity, auto)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("ParseMaxSize(%q) = %d, %v, want %d", tt.text, got, err, tt.want)
		}
	}
	b := newBudget(512<<20, 0, 0)
	if b.Low != 384<<20 || b.Rotate != (128<<20)/5 || b.High < 460<<20 || b.High > 461<<20 {
		t.Errorf("marks of 512 MiB: %+v", b)
	}
}

func TestWrongSettingsAreWarnedAbout(t *testing.T) {
	s, dir := start(t, Options{MaxSize: "many", TreeTime: "golang:Nope"})
	s.Flush()
	got := read(t, dir, "0/pantavisor/pantavisor.log")
	if !strings.Contains(got, `PV_LOG_DIR_MAXSIZE "many"`) || !strings.Contains(got, `"golang:Nope"`) {
		t.Errorf("no warning in %q", got)
	}
}

func TestSourcesStayInTheirDirectory(t *testing.T) {
	s, dir := start(t, Options{})
	for i, source := range []string{"../../../etc/passwd", "/", "..", "a/./b", ".hidden", "x.1", "y.gz", "z\x00\n", strings.Repeat("n", 300), "\xff"} {
		s.Log("app", source, Info, fmt.Sprint(i))
	}
	s.Log("../evil", "out", Info, "x")
	s.Flush()
	top, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(top) != 1 {
		t.Errorf("something was written outside of the log directory: %v, %v", top, err)
	}
	for _, name := range []string{"app/_../_../_../etc/passwd", "app/_..", "app/a/b", "app/_.hidden", "app/x.1_", "app/y.gz_", "_../evil/out"} {
		if name == "_../evil/out" {
			name = "_.._evil/out"
		}
		if _, err := os.Stat(filepath.Join(dir, "0", name)); err != nil && name != "app/_.." {
			t.Errorf("no file %s: %v", name, err)
		}
	}
}

func TestOneContainerCannotMakeFilesWithoutEnd(t *testing.T) {
	s, dir := start(t, Options{})
	for i := range 1000 {
		s.Log("app", fmt.Sprint("source-", i), Info, "x")
	}
	s.Flush()
	files, err := os.ReadDir(filepath.Join(dir, "0/app"))
	if err != nil || len(files) != maxSources+1 {
		t.Errorf("%d files, want %d and one for the rest (%v)", len(files), maxSources, err)
	}
	if n := strings.Count(read(t, dir, "0/app", overflowSource), "x\n"); n != 1000-maxSources {
		t.Errorf("%d messages of further sources, want %d", n, 1000-maxSources)
	}
}

func TestUpdateLog(t *testing.T) {
	s, _ := start(t, Options{})
	dir := filepath.Join(t.TempDir(), ".pv")
	s.Log("app", "out", Error, "before")
	if err := s.StartUpdateLog(dir); err != nil {
		t.Fatal(err)
	}
	s.Log("app", "out", Error, "bad")
	s.Log("app", "out", Info, "good")
	Logger{Sink: s, Source: "engine"}.Fatalf("worse")
	for range 2000 {
		s.Log("app", "out", Error, strings.Repeat("x", 100))
		s.Flush()
	}
	if err := s.StopUpdateLog(); err != nil {
		t.Fatal(err)
	}
	got := read(t, dir, "logs")
	lines := strings.Split(got, "\n")
	if !strings.Contains(lines[0], `"msg":"bad"`) || !strings.Contains(got, `"msg":"worse"`) || strings.Contains(got, "good") || strings.Contains(got, "before") {
		t.Errorf("the update's log begins %q", lines[:2])
	}
	if len(got) > maxUpdateLog {
		t.Errorf("%d bytes, bound is %d", len(got), maxUpdateLog)
	}
}

func TestConfigure(t *testing.T) {
	var out screen
	s, dir := start(t, Options{Stdout: &out, MaxSize: "1000000000"})
	s.Log("app", "out", Info, "one")
	s.Configure(Options{Level: Warn, Outputs: SingleFile | StdoutContainers, SingleTime: "strftime:at", StdoutTime: "strftime:now", MaxSize: "40000"})
	s.Log("app", "out", Info, "two")
	Logger{Sink: s, Source: "x"}.Infof("not shown any more")
	s.Configure(Options{Level: Warn, Outputs: FileTree, MaxSize: "rubbish", TreeTime: "rubbish"})
	for range 3 {
		s.Configure(Options{Level: Warn, Outputs: FileTree, MaxSize: "40000"})
		s.put("app", "out", Info, fromStream, []byte(strings.Repeat("r", 3000)+"\n"))
		s.Flush()
	}
	s.Close()
	single := read(t, dir, "0/pv.log")
	if strings.Count(single, "\n") != 1 || !strings.Contains(single, `"ts":"at","platform":"app","lvl":"INFO","src":"out","msg":"two"}`) {
		t.Errorf("pv.log: %q", single)
	}
	if got := masked(out.String()); got != "[app] N [now] INFO\t -- [out]: two\n" {
		t.Errorf("standard output: %q", got)
	}
	if first, err := unzip(filepath.Join(dir, "0/app/out.1.gz")); err != nil || !strings.HasPrefix(first, "one\nr") {
		t.Errorf("the new size for rotation is not used: %q, %v", first, err)
	}
	own := read(t, dir, "0/pantavisor/pantavisor.log")
	if strings.Contains(own, "not shown") || strings.Count(own, "reading PV_LOG_DIR_MAXSIZE \"rubbish\"") != 1 || strings.Count(own, "time stamp format") != 1 {
		t.Errorf("the runtime's log: %q", own)
	}
}

func TestStandardOutputAfterTheEnd(t *testing.T) {
	for outputs, want := range map[Output]int{Stdout: 2, StdoutPantavisor: 2, StdoutDirect: 2, FileTree: 0, StdoutContainers: 0} {
		var out screen
		s, _ := start(t, Options{Outputs: outputs, Stdout: &out})
		Logger{Sink: s, Source: "x"}.Infof("before")
		s.Close()
		Logger{Sink: s, Source: "x"}.Infof("after")
		s.Log("app", "out", Info, "of a container")
		if n := strings.Count(out.String(), "\n"); n != want {
			t.Errorf("%s: %d lines, want %d: %q", outputs, n, want, out.String())
		}
	}
}

func TestLongNamesAreCut(t *testing.T) {
	s, _ := start(t, Options{})
	held, release := make(chan struct{}), make(chan struct{})
	go s.do(func() { close(held); <-release })
	<-held
	for i := range 100 {
		s.Log("app", fmt.Sprint(i)+strings.Repeat("n", 100<<10), Info, "x")
	}
	s.mu.Lock()
	l, size := s.byName["app"], 0
	for name := range l.names {
		size += len(name)
	}
	for _, h := range l.heads {
		if len(h.source) > maxName {
			t.Errorf("a name of %d bytes waits", len(h.source))
		}
	}
	s.mu.Unlock()
	close(release)
	if size > maxSources*maxName {
		t.Errorf("%d bytes of names are kept", size)
	}
}

func TestCloseIsFinal(t *testing.T) {
	s, dir := start(t, Options{})
	s.Log("app", "out", Info, "last")
	s.Close()
	s.Close()
	s.Log("app", "out", Info, "too late")
	s.Flush()
	if err := s.SetRevision("1"); err == nil {
		t.Error("a closed server took a revision")
	}
	if got := read(t, dir, "0/app/out"); got != "last\n" {
		t.Errorf("file = %q", got)
	}
}

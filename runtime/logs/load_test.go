package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	loadSources = 8
	loadLine    = 100 // bytes
)

// writerEnv makes the test binary write lines instead: "RATE LINES", into each of
// the descriptors from 3 on.
const writerEnv = "PV_TEST_LOG_WRITER"

func TestMain(m *testing.M) {
	if spec := os.Getenv(writerEnv); spec != "" {
		var rate, lines int
		if _, err := fmt.Sscan(spec, &rate, &lines); err != nil {
			panic(err)
		}
		writeLines(rate, lines)
		return
	}
	os.Exit(m.Run())
}

// writeLines writes lines one by one, as programs do, all sources together at a rate
// per second; 0 is as fast as they are taken.
func writeLines(rate, lines int) {
	var wg sync.WaitGroup
	for c := range loadSources {
		out := os.NewFile(uintptr(3+c), "source")
		wg.Go(func() {
			line := []byte(strings.Repeat("m", loadLine-1) + "\n")
			begin := time.Now()
			for n := 0; n < lines; n++ {
				if _, err := out.Write(line); err != nil {
					return
				}
				if due := begin.Add(time.Duration(n) * time.Second / time.Duration(max(rate/loadSources, 1))); rate > 0 && n%20 == 0 {
					time.Sleep(time.Until(due))
				}
			}
			_ = out.Close()
		})
	}
	wg.Wait()
}

// load lets another process write b.N lines through eight pipes, as eight consoles
// do, and reports how many processors this one used and how many lines were lost.
func load(b *testing.B, rate int, outputs Output) {
	s := New(Options{Outputs: outputs, Stdout: io.Discard, Level: Debug, MaxSize: "40GB"})
	defer s.Close()
	dir := b.TempDir()
	if err := s.Open(dir, "0"); err != nil {
		b.Fatal(err)
	}
	each := max(b.N/loadSources, 1)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), writerEnv+"="+strconv.Itoa(rate)+" "+strconv.Itoa(each))
	for c := range loadSources {
		r, w, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		if err := s.Subscribe(r, fmt.Sprint("c", c), "lxc/console.log", Info); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(loadLine)
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for _, w := range cmd.ExtraFiles {
		_ = w.Close()
	}
	s.subs.reads.Wait()
	s.Flush()
	used := processorTime() - before
	b.StopTimer()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(each*loadSources)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(used.Seconds()/b.Elapsed().Seconds(), "cores")
	b.ReportMetric(float64(used.Nanoseconds())/float64(each*loadSources), "cpu-ns/line")
	b.ReportMetric(float64(each*loadSources-countLines(dir, outputs)), "lost")
}

func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime))
}

// countLines counts the lines of the sources that are in the files.
func countLines(dir string, outputs Output) int {
	line, pattern := []byte(strings.Repeat("m", loadLine-1)+"\n"), "0/c*/lxc/console.log"
	if outputs == SingleFile {
		line, pattern = []byte(strings.Repeat("m", loadLine-1)+`"}`), "0/pv.log"
	}
	files, _ := filepath.Glob(filepath.Join(dir, pattern))
	n := 0
	for _, f := range files {
		text, _ := os.ReadFile(f)
		n += bytes.Count(text, line)
	}
	return n
}

func BenchmarkLines50k(b *testing.B)     { load(b, 50_000, FileTree) }
func BenchmarkLines200k(b *testing.B)    { load(b, 200_000, FileTree) }
func BenchmarkLinesUnbound(b *testing.B) { load(b, 0, FileTree) }

func BenchmarkLinesSingleFile(b *testing.B) { load(b, 200_000, SingleFile) }

func BenchmarkLinesEverywhere(b *testing.B) { load(b, 200_000, FileTree|SingleFile|Stdout) }

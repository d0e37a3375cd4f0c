package ubootflash

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/ubootstate"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/targets"
)

// archive is a step with an archive of the initrd.
type archive struct{ name, dir string }

func (a *archive) Name() string                           { return a.name }
func (a *archive) Deps() []build.Step                     { return nil }
func (a *archive) Run(context.Context, *build.Work) error { return nil }

// work returns the work of a step whose inputs are in directories.
func work(t *testing.T, in map[build.Step]string) *build.Work {
	t.Helper()
	return build.NewWork(t.TempDir(), t.TempDir(), func(s build.Step) string { return in[s] }, func(build.Note) {})
}

func board(t *testing.T) *targets.Target {
	t.Helper()
	target, err := targets.Load(targets.Builtin(), "malta-qemu")
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	blobs, err := New(board(t)).Raw(bootloader.Kit{BSP: &bootloader.BSP{}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range blobs {
		got = append(got, b.Partition)
	}
	if diff := cmp.Diff([]string{"kernel", "initrd", "uboot-env", "pv-env"}, got); diff != "" {
		t.Error(diff)
	}
	e := blobs[2].File.Step.(*Environment)
	want := Settings{Arguments: e.Settings.Arguments, Kernel: 0xbe420000, Initrd: 0xbea20000, State: 0xbe400000, Second: 0xbe410000, Memory: 0x84000000, Size: 128 << 10}
	if diff := cmp.Diff(want, e.Settings); diff != "" {
		t.Error(diff)
	}
}

func TestTargetsThatCannotBoot(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*targets.Target){
		"kernel.format: uImage":           func(b *targets.Target) { b.Kernel.Format = "vmlinux" },
		"bootloader.addresses":            func(b *targets.Target) { b.Bootloader.Addresses = nil },
		"no pv-env with the format raw":   func(b *targets.Target) { b.Images[1].Partitions[3].Name = "other" },
		"making U-Boot's environment":     func(b *targets.Target) { b.Kernel.Arguments = []string{"a;reset"} },
		"do not fit an environment of 64": func(b *targets.Target) { b.Images[1].Partitions[2].Size = 64 },
	} {
		b := board(t)
		change(b)
		err := environment(t, b)
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want bad input with %q", err, want)
		}
	}
	if _, err := New(board(t)).Raw(bootloader.Kit{}); fault.Of(err) != fault.Unsupported {
		t.Errorf("a BSP of a reference device: %v", err)
	}
}

// environment makes the environment of a target.
func environment(t *testing.T, b *targets.Target) error {
	t.Helper()
	blobs, err := New(b).Raw(bootloader.Kit{BSP: &bootloader.BSP{}})
	if err != nil {
		return err
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, initrdFile), make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	e := blobs[2].File.Step.(*Environment)
	return e.Run(t.Context(), work(t, map[build.Step]string{e.Initrd: dir}))
}

func TestByteOrder(t *testing.T) {
	t.Parallel()
	for big, order := range map[bool]binary.ByteOrder{false: binary.LittleEndian, true: binary.BigEndian} {
		env, _ := flash(t, Settings{Size: 4096, BigEndian: big}, []byte("initrd"))
		if len(env) != 4096 || order.Uint32(env) != crc32.ChecksumIEEE(env[4:]) {
			t.Errorf("big-endian %v: %d bytes, checksum %x", big, len(env), env[:4])
		}
	}
}

// flash runs the steps and returns the environment and the image of the initrd.
func flash(t *testing.T, s Settings, content []byte) (env, initrd []byte) {
	t.Helper()
	half := len(content) / 2
	first, second := &archive{"initrd/base", t.TempDir()}, &archive{"initrd/addon", t.TempDir()}
	for a, part := range map[*archive][]byte{first: content[:half], second: content[half:]} {
		if err := os.WriteFile(filepath.Join(a.dir, "a.cpio"), part, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	join := &Initrd{Arch: uimage.MIPS, Archives: []bootloader.File{{Step: first, Path: "a.cpio"}, {Step: second, Path: "a.cpio"}}}
	w := work(t, map[build.Step]string{first: first.dir, second: second.dir})
	if err := join.Run(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	make := &Environment{Settings: s, Initrd: join}
	v := work(t, map[build.Step]string{join: w.Out})
	if err := make.Run(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return read(t, filepath.Join(v.Out, envFile)), read(t, filepath.Join(w.Out, initrdFile))
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const firmware = "/usr/lib/u-boot/maltael/u-boot.bin"

// board4 is QEMU's Malta board with the 4 MiB of flash that it has: U-Boot and environment.
// What the other 12 MiB of a real one hold is in memory at 0x88000000.
type board4 struct{ flash, memory string }

// stateAt is where its pv-env is.
const stateAt = 0x1c0000

// swap writes content as QEMU wants this part of a flash image: with reversed words.
func swap(to, content []byte) {
	for i := 0; i+4 <= len(content); i += 4 {
		binary.BigEndian.PutUint32(to[i:], binary.LittleEndian.Uint32(content[i:]))
	}
}

func newBoard(t *testing.T) *board4 {
	t.Helper()
	oracle.Program(t, "qemu-system-mipsel")
	code, err := os.ReadFile(firmware)
	if err != nil {
		t.Skipf("needs the package u-boot-qemu: %v", err)
	}
	env, initrd := flash(t, Settings{
		Arguments: []string{"panic=5"}, Kernel: 0x88000000, Initrd: 0x88200000, State: 0xbe1c0000, Second: 0xbe1d0000, Memory: 0x84000000, Size: 128 << 10,
	}, bytes.Repeat([]byte("initrd"), 1000))
	image := bytes.Repeat([]byte{0xFF}, 4<<20)
	swap(image, code)
	copy(image[0x3e0000:], env)
	dir := t.TempDir()
	b := &board4{filepath.Join(dir, "flash.img"), filepath.Join(dir, "memory.img")}
	memory := make([]byte, 4<<20)
	copy(memory[0x200000:], initrd)
	copy(memory, loop(t))
	write(t, b.flash, image)
	write(t, b.memory, memory)
	return b
}

// loop is a kernel that does nothing.
func loop(t *testing.T) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "kernel"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code := []byte{0xff, 0xff, 0, 0x10, 0, 0, 0, 0} // b .; nop
	if err := uimage.Write(f, uimage.Kernel, uimage.Header{Arch: uimage.MIPS, Load: 0x81000000, Entry: 0x81000000}, bytes.NewReader(code)); err != nil {
		t.Fatal(err)
	}
	return read(t, f.Name())
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

var started = regexp.MustCompile(`Booting revision (\S*)\r?\n(?s:.*)Verifying Checksum ... OK(?s:.*)Verifying Checksum ... OK(?s:.*)Loading Kernel Image`)

// state is a copy of pv_rev and pv_try that is not at its end.
func state(t *testing.T, rev, try string) []byte {
	t.Helper()
	list, err := ubootenv.Encode([]ubootenv.Entry{{Name: "pv_rev", Value: rev}, {Name: "pv_try", Value: try}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := ubootstate.Encode(list)
	if err != nil {
		t.Fatal(err)
	}
	return append(data[:ubootstate.CompleteAt], 0xff, 0xff, 0xff, 0xff)
}

// set erases pv-env and writes its two copies, as the runtime does. The second is complete when
// there is one; of the first, part is there.
func (b *board4) set(t *testing.T, first, second []byte) {
	t.Helper()
	image := read(t, b.flash)
	copy(image[stateAt:], bytes.Repeat([]byte{0xFF}, 128<<10))
	swap(image[stateAt:], first)
	if second != nil {
		second = bytes.Clone(second)
		binary.LittleEndian.PutUint32(second[ubootstate.CompleteAt:], ubootstate.Word)
		swap(image[stateAt+secondAt:], second)
	}
	write(t, b.flash, image)
}

// boot starts U-Boot and returns the revision whose kernel it starts.
func (b *board4) boot(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-mipsel", "-M", "malta", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio",
		"-drive", "if=pflash,format=raw,file="+b.flash, "-device", "loader,addr=0x08000000,force-raw=on,file="+b.memory)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	return converse(t, in, out)
}

// converse types "boot" at U-Boot's prompt and reads until a kernel is started.
func converse(t *testing.T, in io.Writer, out io.Reader) string {
	t.Helper()
	var console bytes.Buffer
	buffer, typed := make([]byte, 4096), false
	for {
		n, err := out.Read(buffer)
		console.Write(buffer[:n])
		if err != nil {
			t.Fatalf("U-Boot starts nothing:\n%s", console.String())
		}
		if !typed && bytes.Contains(console.Bytes(), []byte("maltael #")) {
			typed = true
			if _, err := fmt.Fprint(in, "boot\r"); err != nil {
				t.Fatal(err)
			}
		}
		if m := started.FindSubmatch(console.Bytes()); m != nil {
			return string(m[1])
		}
	}
}

// TestHandshake runs the state table of package bootloader on Debian's U-Boot, which keeps
// its mark in the flash over the boots.
func TestHandshake(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	t.Parallel()
	b := newBoard(t)
	complete := func(rev, try string) []byte {
		data := state(t, rev, try)
		binary.LittleEndian.PutUint32(data[ubootstate.CompleteAt:], ubootstate.Word)
		return data
	}
	for i, update := range []struct {
		first, second []byte
		want          []string // boots
	}{
		{complete("3", ""), nil, []string{"3"}},
		{complete("3", "4"), state(t, "9", ""), []string{"4", "3"}}, // the second time the test has failed
		{state(t, "3", "locals/a.b-c"), nil, []string{"locals/a.b-c"}},
		{state(t, "9", "8")[:20], state(t, "3", "4"), []string{"4", "3"}}, // the power was cut
		{nil, nil, []string{"0"}},
	} {
		b.set(t, update.first, update.second)
		for n, want := range update.want {
			if got := b.boot(t); got != want {
				t.Errorf("state %d, boot %d: started %q, want %q", i+1, n+1, got, want)
			}
			b.keepMarks(t, update.first, update.second)
		}
	}
}

// secondAt is where the second copy is in pv-env.
const secondAt = 64 << 10

// keepMarks writes what U-Boot has left as the next start of QEMU wants it: QEMU writes whole
// buffers back without reversing their words.
func (b *board4) keepMarks(t *testing.T, first, second []byte) {
	t.Helper()
	before := read(t, b.flash)
	b.set(t, first, second)
	image := read(t, b.flash)
	for _, at := range []int{stateAt + ubootstate.MarkAt, stateAt + secondAt + ubootstate.MarkAt} {
		copy(image[at:], before[at:at+4])
	}
	write(t, b.flash, image)
}

package size

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestAreasAreProportional divides rectangles by many lists of weights: the areas have their
// proportions, cover the rectangle, and do not overlap.
func TestAreasAreProportional(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		weights := make([]float64, 1+r.IntN(60))
		sum := 0.0
		for i := range weights {
			weights[i] = math.Exp(r.Float64() * 14)
			sum += weights[i]
		}
		slices.SortFunc(weights, func(a, b float64) int { return int(math.Copysign(1, b-a)) })
		in := rect{r.Float64() * 9, r.Float64() * 9, 1 + r.Float64()*1000, 1 + r.Float64()*1000}
		out := squarify(weights, in)
		if len(out) != len(weights) {
			t.Fatalf("%d weights have %d areas", len(weights), len(out))
		}
		near := in.area() * 1e-9
		area := 0.0
		for i, o := range out {
			if want := weights[i] / sum * in.area(); math.Abs(o.area()-want) > near {
				t.Fatalf("a weight of %g of %g has the area %g, not %g", weights[i], sum, o.area(), want)
			}
			if o.x < in.x-near || o.y < in.y-near || o.x+o.w > in.x+in.w+near || o.y+o.h > in.y+in.h+near {
				t.Fatalf("%v is not in %v", o, in)
			}
			for _, other := range out[:i] {
				w := min(o.x+o.w, other.x+other.w) - max(o.x, other.x)
				h := min(o.y+o.h, other.y+other.h) - max(o.y, other.y)
				if w > 0 && h > 0 && w*h > near {
					t.Fatalf("%v and %v overlap", o, other)
				}
			}
			area += o.area()
		}
		if math.Abs(area-in.area()) > near*float64(len(out)) {
			t.Fatalf("the areas are %g of %g together", area, in.area())
		}
	}
}

// TestSquaresAreSquare: equal weights in a square become squares, as far as their number allows.
func TestSquaresAreSquare(t *testing.T) {
	for _, r := range squarify([]float64{1, 1, 1, 1}, rect{0, 0, 100, 100}) {
		if math.Abs(r.w-r.h) > 1e-9 {
			t.Errorf("%v is not a square", r)
		}
	}
}

func leaf(name string, sort inspect.Sort, bytes int64) *inspect.Sized {
	return &inspect.Sized{Name: name, Sort: sort, Bytes: bytes, Unpacked: 3 * bytes}
}

func with(name string, sort inspect.Sort, parts ...*inspect.Sized) *inspect.Sized {
	s := &inspect.Sized{Name: name, Sort: sort, Parts: parts}
	for _, p := range parts {
		s.Bytes += p.Bytes
		s.Unpacked += p.Unpacked
	}
	return s
}

// evil is a name that would be more than text in SVG and HTML.
const evil = `</title><script>alert("1&2")</script>'` + "\x01\x1b[31m]]>"

// sampleTree is an image with modules, a program, and a file of a hostile name.
func sampleTree() *inspect.Sized {
	modules := with("modules.squashfs", inspect.SortArchive, leaf("a.ko", inspect.SortModule, 6<<20), leaf("b.ko", inspect.SortModule, 1<<20))
	program := with("tool", inspect.SortProgram, leaf("runtime", inspect.SortCode, 500_000), leaf("net", inspect.SortCode, 300_000))
	busybox := leaf("busybox", inspect.SortProgram, 200_000)
	busybox.Package = "busybox-static"
	bsp := with("bsp", inspect.SortDirectory, leaf("kernel.img", inspect.SortKernel, 8<<20), modules)
	app := with("app", inspect.SortDirectory, program, busybox, leaf(evil, inspect.SortFile, 2<<20))
	storage := with("partition 2 root", inspect.SortPartition, with("trails/0", inspect.SortDirectory, bsp, app), leaf("(ext4 itself)", inspect.SortRest, 9000))
	disk := with("x.img", inspect.SortDisk, storage, with("partition 1 boot", inspect.SortPartition, leaf("grub.cfg", inspect.SortFile, 4096)))
	disk.Unpacked = 1 << 30
	return disk
}

func sampleReport() *Report {
	return &Report{Name: "x" + evil, Tree: sampleTree(), Budgets: []build.Use{
		{Name: "initrd", Bytes: 90, Limit: 100}, {Name: "image", Bytes: 300, Limit: 200}, {Name: "partition " + evil, Bytes: 1, Limit: 2},
	}}
}

// TestDrawing: the picture is well-formed, whatever names are, and every box is inside of it.
func TestDrawing(t *testing.T) {
	var out bytes.Buffer
	if err := sampleReport().SVG(&out); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(&out)
	titles := map[string]bool{}
	elements := map[string]int{}
	title := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements[token.Name.Local]++
			title = token.Name.Local == "title"
		case xml.CharData:
			if title {
				titles[string(token)] = true
			}
		case xml.EndElement:
			title = false
		}
	}
	for name := range elements {
		if !slices.Contains([]string{"svg", "title", "desc", "g", "rect", "text"}, name) {
			t.Errorf("the picture has the element %s", name)
		}
	}
	if want := "partition 2 root/trails/0/bsp/modules.squashfs/a.ko\n6.0 MiB on the medium, 18.0 MiB unpacked"; !titles[want] {
		t.Errorf("the picture does not tell %q of a module: %v", want, titles)
	}
}

// TestBoxesAreInTheirFrames: the areas of what is in a frame are in the proportion of the sizes.
func TestBoxesAreInTheirFrames(t *testing.T) {
	all := boxes(sampleTree(), "", rect{0, 0, width, height}, 0)
	frames := 0
	for i, f := range all {
		if !f.frame {
			continue
		}
		frames++
		inner := f.inset(border, headHeight)
		area := 0.0
		for _, b := range all[i+1:] {
			if b.deep <= f.deep {
				break
			}
			if b.deep != f.deep+1 {
				continue
			}
			area += b.area()
			if want := inner.area() * float64(b.of.Bytes) / float64(f.of.Bytes); math.Abs(want-b.area()) > 1e-6*inner.area() {
				t.Errorf("%s has the area %g, not %g", b.path, b.area(), want)
			}
		}
		if area > inner.area()*(1+1e-9) {
			t.Errorf("what is in %s has the area %g of %g", f.path, area, inner.area())
		}
	}
	if frames < 5 {
		t.Errorf("there are %d frames", frames)
	}
}

// TestPage: the page loads nothing, has no scripts, and shows names as text.
func TestPage(t *testing.T) {
	r := sampleReport()
	r.CompareTree("last "+evil, with("x.img", inspect.SortDisk, leaf("old", inspect.SortFile, 1<<20)))
	var out bytes.Buffer
	if err := r.HTML(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, never := range []string{"<script", "alert(\"", "http-equiv=\"refresh", "src=", "href=", "\x1b", "javascript:"} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q", never)
		}
	}
	for _, want := range []string{"default-src 'none'", "exceeded", "Since last", "busybox-static", "<meter", "a.ko"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
}

func TestText(t *testing.T) {
	r := sampleReport()
	r.Files = []File{{"x.img", 1 << 30}}
	var out bytes.Buffer
	if err := r.Text(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("the text has what a terminal obeys")
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"18.0 MiB used of 1024.0 MiB", "initrd 90 B 100 B ##################.. 90 %", "300 B 200 B #################### 150 % OVER",
		"partition 1 boot 4.0 KiB", "PARTS OF THE REVISION ON THE MEDIUM UNPACKED bsp 15.0 MiB", "modules.squashfs 7.0 MiB",
		"bsp/modules.squashfs/a.ko 6.0 MiB 18.0 MiB", "busybox-static 195.3 KiB", "tool: runtime 488.3 KiB", "x.img 1024.0 MiB",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func TestSince(t *testing.T) {
	old := Thing{Name: "i", Bytes: 100, Entries: []Entry{{"a", 50, 0}, {"b", 30, 0}, {"gone", 20, 0}}}
	now := Thing{Name: "i", Bytes: 130, Entries: []Entry{{"a", 55, 0}, {"b", 30, 0}, {"new", 45, 0}}}
	want := []Growth{{"new", 0, 45}, {"a", 50, 55}, {"gone", 20, 0}}
	if diff := cmp.Diff(want, now.Since(&old)); diff != "" {
		t.Error(diff)
	}
	// What is smaller than all that was kept may have been there.
	old.Cut, old.Entries = true, []Entry{{"a", 50, 0}, {"b", 48, 0}}
	if diff := cmp.Diff([]Growth{{"a", 50, 55}, {"b", 48, 30}}, now.Since(&old)); diff != "" {
		t.Error(diff)
	}
}

// TestEntries: archives and programs are listed besides what is in them.
func TestEntries(t *testing.T) {
	var names []string
	for _, e := range Measured("image", sampleTree()).Entries {
		names = append(names, base(e.Name))
	}
	want := []string{"kernel.img", "modules.squashfs", "a.ko", base(evil), "b.ko", "tool", "runtime", "net", "busybox", "(ext4 itself)", "grub.cfg"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestSaved(t *testing.T) {
	var parts []*inspect.Sized
	for i := range 2 * mostEntries {
		parts = append(parts, leaf(strings.Repeat("f", i+1), inspect.SortFile, int64(1+i)))
	}
	big := Measured("image", with("x", inspect.SortArchive, parts...))
	if len(big.Entries) != mostEntries || !big.Cut || big.Entries[0].Bytes != 2*mostEntries {
		t.Errorf("%d entries are kept, cut: %v", len(big.Entries), big.Cut)
	}
	s := &Saved{Target: "x", Release: "v1", Things: []Thing{big}}
	text, err := s.Encode()
	file := filepath.Join(t.TempDir(), "sizes.json")
	if err = errors.Join(err, os.WriteFile(file, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Error(diff)
	}
	if got.Thing("image") == nil || got.Thing("no") != nil || (*Saved)(nil).Thing("image") != nil {
		t.Error("a thing is not found by its name")
	}
	if err := os.WriteFile(file, []byte("<html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
}

func TestCompare(t *testing.T) {
	earlier, now := sampleReport(), sampleReport()
	earlier.Tree.Parts[1].Parts[0].Bytes -= 96
	earlier.Tree.Bytes -= 96
	text, err := json.Marshal(earlier)
	if err != nil {
		t.Fatal(err)
	}
	want := []Growth{{"partition 1 boot/grub.cfg", 4000, 4096}}
	if err := now.Compare("x.json", text); err != nil || now.Change != 96 || cmp.Diff(want, now.Grown) != "" {
		t.Errorf("%v: %d, %v", err, now.Change, now.Grown)
	}
	saved, err := (&Saved{Things: []Thing{Measured("image", earlier.Tree)}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := now.Compare("sizes.json", saved); err != nil || cmp.Diff(want, now.Grown) != "" {
		t.Errorf("%v: %v", err, now.Grown)
	}
	for _, bad := range []string{"{}", `{"things": [{"name": "initrd"}]}`, "[]", `{"tree": 5}`} {
		if err := now.Compare("f", []byte(bad)); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// decoded returns a JSON text as a value with every digit kept.
func decoded(t *testing.T, text string) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
	return v
}

// entry is a member of a recorded export.
type entry struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Mode string `json:"mode"`
	Sum  string `json:"sha256"`
}

func members(t *testing.T, text []byte) (out []entry, doc string) {
	t.Helper()
	var r io.Reader = bytes.NewReader(text)
	if bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, doc
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "json" {
			doc = string(content)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.Typeflag != tar.TypeReg {
			t.Errorf("member %+v", h)
		}
		out = append(out, entry{h.Name, h.Size, "0o" + strings.TrimLeft(octal(h.Mode), "0"), sumOf(content)})
	}
}

func TestRecordedExports(t *testing.T) {
	s := newScene(t)
	s.commitTree()
	type export struct {
		File    string  `json:"file"`
		Parts   *string `json:"parts"`
		RC      int     `json:"rc"`
		First   string  `json:"first_entry"`
		Entries []entry `json:"entries"`
		JSON    *string `json:"json"`
		Magic   string  `json:"magic"`
	}
	for _, c := range load[[]export](t, "repo/exports.json") {
		t.Run(c.File, func(t *testing.T) {
			sub := *s
			sub.t = t
			args := []string{"export", filepath.Join(s.work, c.File)}
			if c.File == "-" {
				args[1] = "-"
			}
			if c.Parts != nil {
				args = append(args, "--parts", *c.Parts)
			}
			got := sub.run(args...)
			if got.rc != c.RC {
				t.Fatalf("%+v", got)
			}
			for line := range strings.Lines(got.stderr) { // the recorded tool is silent
				if !strings.Contains(line, " matches nothing of the committed state") {
					t.Errorf("%s", line)
				}
			}
			text := []byte(got.stdout)
			if c.File != "-" {
				text = []byte(sub.read(args[1]))
			}
			list, doc := members(t, text)
			if list[0].Name != "json" {
				t.Errorf("the first member is %s", list[0].Name)
			}
			if c.JSON != nil && doc != *c.JSON {
				t.Errorf("json (-recorded +got):\n%s", cmp.Diff(*c.JSON, doc))
			}
			if gz := text[0] == 0x1f; gz != (strings.HasSuffix(c.File, "gz")) {
				t.Errorf("compressed: %v", gz)
			}
			if c.Entries != nil {
				byName := func(list []entry) map[string]entry {
					out := map[string]entry{}
					for _, e := range list {
						out[e.Name] = e
					}
					return out
				}
				if diff := cmp.Diff(byName(c.Entries), byName(list)); diff != "" {
					t.Errorf("members (-recorded +got):\n%s", diff)
				}
			}
		})
	}
}

func TestRecordedImport(t *testing.T) {
	rec := load[struct {
		Transcript []record              `json:"transcript"`
		State      string                `json:"state_after_first"`
		First      map[string]attributes `json:"tree_after_first_checkout"`
		Canonical  map[string]attributes `json:"tree_after_canonical_checkout"`
	}](t, "repo/import.json")
	s := newScene(t)
	for _, name := range []string{"all.tgz", "part1.tgz", "part0.tgz", "part2.tgz"} {
		s.write(filepath.Join(s.work, name), s.raw("repo/exports/"+name))
	}
	s.must("init", "-o", "@WORK@/objs")
	checkouts := 0
	for _, run := range rec.Transcript {
		s.replay(run, run.Cmd[1] == "status")
		switch {
		case run.Cmd[1] == "import" && checkouts == 0:
			if got := s.read(".pvr/json"); got != rec.State {
				t.Errorf("state (-recorded +got):\n%s", cmp.Diff(rec.State, got))
			}
		case run.Cmd[1] == "checkout":
			want := rec.First
			if checkouts++; checkouts > 1 {
				want = rec.Canonical
			}
			if diff := cmp.Diff(want, tree(t, ".")); diff != "" {
				t.Errorf("%v: tree (-recorded +got):\n%s", run.Cmd, diff)
			}
		}
	}
}

func TestRecordedHardlinkCheckout(t *testing.T) {
	rec := load[struct {
		Cmd     record                `json:"cmd"`
		Tree    map[string]attributes `json:"tree"`
		Objects map[string]attributes `json:"objects"`
	}](t, "repo/checkout-hardlink.json")
	s := newScene(t)
	s.commitTree()
	s.replay(rec.Cmd, false)
	if diff := cmp.Diff(rec.Tree, tree(t, ".")); diff != "" {
		t.Errorf("tree (-recorded +got):\n%s", diff)
	}
	if diff := cmp.Diff(rec.Objects, tree(t, "../objects")); diff != "" {
		t.Errorf("objects (-recorded +got):\n%s", diff)
	}
	if got := s.must("status"); got.stdout != "" {
		t.Errorf("status: %s", got.stdout)
	}
}

// unpackRepo makes a checkout of a recorded export, with its own object store.
func (s *scene) unpackRepo(name string) {
	s.t.Helper()
	s.write(filepath.Join(s.work, name+".tgz"), s.raw("merge/"+name+".tgz"))
	s.mkdir(name)
	dir := filepath.Join(s.work, name)
	s.t.Chdir(dir)
	s.must("init", "-o", "@WORK@/objs-"+name)
	s.must("import", "../"+name+".tgz")
	s.must("checkout")
	s.t.Chdir(s.repo)
}

func TestRecordedMerge(t *testing.T) {
	type outcome struct {
		RC     int    `json:"rc"`
		Stdout string `json:"stdout"`
	}
	cases := load[struct {
		Cases []struct {
			Cmd        string          `json:"cmd"`
			Fragment   string          `json:"fragment"`
			Stable     outcome         `json:"stable"`
			Documented json.RawMessage `json:"documented"`
		} `json:"cases"`
	}](t, "merge/cases.json")
	for _, c := range cases.Cases {
		t.Run(c.Cmd+"#"+c.Fragment, func(t *testing.T) {
			s := newScene(t)
			s.unpackRepo("src")
			s.must("init", "-o", "@WORK@/objs-t")
			s.write(filepath.Join(s.work, "loc.tgz"), s.raw("merge/loc.tgz"))
			s.must("import", "../loc.tgz")
			name := "../src.tgz"
			if c.Fragment != "" {
				name += "#" + c.Fragment
			}
			got := s.run(c.Cmd, name)
			if said := s.hide(got.stdout); got.rc != c.Stable.RC || said != c.Stable.Stdout {
				t.Errorf("exit code %d, %s", got.rc, cmp.Diff(c.Stable.Stdout, said))
			}
			// Where the program in the field differs from the manual the manual counts.
			if diff := cmp.Diff(decoded(t, string(c.Documented)), decoded(t, s.read(".pvr/json"))); diff != "" {
				t.Errorf("state (-documented +got):\n%s", diff)
			}
		})
	}
}

func TestRecordedClone(t *testing.T) {
	for _, c := range load[[]struct {
		Run    record            `json:"run"`
		Bytes  string            `json:"state_bytes"`
		Config string            `json:"config"`
		Tree   map[string]string `json:"tree"`
		Mode   string            `json:"dir_mode"`
	}](t, "merge/clone.json") {
		t.Run(strings.Join(c.Run.Cmd[2:], " "), func(t *testing.T) {
			s := newScene(t)
			s.unpackRepo("src")
			got := s.run(c.Run.Cmd[1:]...)
			// Archives are read in place, not from a temporary directory.
			want := result{c.Run.RC, c.Run.Stdout, strings.ReplaceAll(c.Run.Stderr, "@TMP@/pvr-tmprepo/", "../src.tgz/")}
			if diff := cmp.Diff(want.sorted(), got.sorted(), cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-recorded +got):\n%s", diff)
			}
			cl := filepath.Join(s.work, "cl")
			if strings.Contains(c.Run.Cmd[len(c.Run.Cmd)-2], "#app") {
				// Parts are whole path elements: #app does not bring appx.
				c.Bytes = strings.Replace(c.Bytes, `,"appx/f":"a12e6e81115ddc363f2d7d9a1afc8b5aaed28936891ce5d4a3e9ca4d42ecc1ac"`, "", 1)
				delete(c.Tree, "appx/f")
			}
			if diff := cmp.Diff(c.Bytes, s.read(cl+"/.pvr/json")); diff != "" {
				t.Errorf("state (-recorded +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.Config, s.hide(s.read(cl+"/.pvr/config"))); diff != "" {
				t.Errorf("config (-recorded +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.Tree, sums(tree(t, cl))); diff != "" {
				t.Errorf("tree (-recorded +got):\n%s", diff)
			}
			if info, err := os.Stat(cl); err != nil || "0o"+octal(int64(info.Mode().Perm())) != c.Mode {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestRecordedDeploy(t *testing.T) {
	cases := load[struct {
		Cases []struct {
			Sources []string              `json:"sources"`
			Run     record                `json:"run"`
			State   json.RawMessage       `json:"state"`
			Tree    map[string]attributes `json:"tree"`
			Objects map[string]uint64     `json:"objects"`
		} `json:"cases"`
	}](t, "merge/deploy.json")
	for _, c := range cases.Cases {
		t.Run(strings.Join(c.Run.Cmd[2:], " "), func(t *testing.T) {
			s := newScene(t)
			s.unpackRepo("src")
			s.unpackRepo("loc")
			s.write(filepath.Join(s.work, "repo.tgz"), s.raw("repo/exports/all.tgz"))
			s.mkdir("dep")
			t.Chdir(filepath.Join(s.work, "dep"))
			s.must("init", "-o", "@WORK@/dep-objects")
			t.Chdir(s.repo)
			got := s.run(c.Run.Cmd[1:]...)
			want := result{c.Run.RC, c.Run.Stdout, c.Run.Stderr}
			got.stderr = strings.ReplaceAll(got.stderr, "[OK cache]", "[OK]") // an object known from an earlier source
			if diff := cmp.Diff(want.sorted(), got.sorted(), cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-recorded +got):\n%s", diff)
			}
			asDocumented(c.Sources, c.Tree)
			dep := filepath.Join(s.work, "dep")
			if diff := cmp.Diff(c.Tree, tree(t, dep)); diff != "" {
				t.Errorf("tree (-recorded +got):\n%s", diff)
			}
			links := map[string]uint64{}
			for name, a := range tree(t, filepath.Join(s.work, "dep-objects")) {
				links[name] = a.Links
			}
			if len(links) != len(c.Objects) {
				t.Errorf("objects (-recorded +got):\n%s", cmp.Diff(c.Objects, links))
			}
		})
	}
}

// asDocumented corrects what the program in the field does against the manual: it
// selects parts by a mere prefix, and does not remove what a '-' names.
func asDocumented(sources []string, files map[string]attributes) {
	for _, src := range sources {
		switch {
		case strings.HasSuffix(src, "#app"):
			delete(files, "appx/f")
		case strings.HasSuffix(src, "#-only"):
			delete(files, "only/loc")
		}
	}
}

func TestRecordedFastCopy(t *testing.T) {
	cases := load[struct {
		Cases []struct {
			Args   []string `json:"args"`
			Stable struct {
				RC     int `json:"rc"`
				Posted *struct {
					State json.RawMessage `json:"state"`
				} `json:"posted"`
			} `json:"stable"`
		} `json:"cases"`
	}](t, "merge/fastcopy.json")
	s := newScene(t)
	states := map[string]*state.State{}
	for name, file := range map[string]string{"src": "src-state.json", "dst": "local-state.json"} {
		st, err := state.Parse([]byte(s.raw("merge/" + file)))
		if err != nil {
			t.Fatal(err)
		}
		states[name] = st
	}
	for _, c := range cases.Cases {
		t.Run(strings.Join(c.Args, " "), func(t *testing.T) {
			args, merge := c.Args, false
			if args[0] == "--merge" {
				args, merge = args[1:], true
			}
			from, to := fragment(t, args[0]), fragment(t, args[1])
			got, err := repo.FastCopy(states["src"], states["dst"], from, to, merge)
			if (err != nil) != (c.Stable.RC != 0) {
				t.Fatalf("%v, recorded exit code %d", err, c.Stable.RC)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(decoded(t, string(c.Stable.Posted.State)), decoded(t, string(got.Encode()))); diff != "" {
				t.Errorf("state (-recorded +got):\n%s", diff)
			}
		})
	}
}

func fragment(t *testing.T, name string) state.Fragment {
	t.Helper()
	_, text, _ := strings.Cut(name, "#")
	f, err := state.ParseFragment(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

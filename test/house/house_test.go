package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/pantavisor/pantavisor"
)

// source is one parsed Go file of the repository.
type source struct {
	path string // relative to the repository's root, with slashes
	file *ast.File
	fset *token.FileSet
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// parsed is what all tests of this package look at, read once.
var parsed = sync.OnceValues(parseAll)

// sources returns every Go file that belongs to the repository.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d Go files: the walk does not see the repository", len(all))
	}
	return all
}

func parseAll() (all []source, err error) {
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "out" || n == "testdata" || (strings.HasPrefix(n, ".") && n != ".." && n != ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || d.Name() == "mage_output_file.go" {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("parsing %s: %w", p, err)
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		all = append(all, source{filepath.ToSlash(rel), f, fset})
		return nil
	})
	return all, err
}

func TestEveryPackageHasDocComment(t *testing.T) {
	doc := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		dir := path.Dir(s.path)
		doc[dir] = doc[dir] || s.file.Doc != nil
	}
	for dir, ok := range doc {
		if !ok {
			t.Errorf("package %s has no doc comment", dir)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	total, missing := 0, []string{}
	note := func(s source, name *ast.Ident, docs ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		total++
		for _, d := range docs {
			if d != nil {
				return
			}
		}
		missing = append(missing, fmt.Sprintf("%s:%d %s", s.path, s.fset.Position(name.Pos()).Line, name.Name))
	}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if !wellKnown(d) {
					note(s, d.Name, d.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch v := spec.(type) {
					case *ast.TypeSpec:
						note(s, v.Name, d.Doc, v.Doc, v.Comment)
					case *ast.ValueSpec:
						note(s, v.Names[0], d.Doc, v.Doc, v.Comment)
					}
				}
			}
		}
	}
	if part := float64(total-len(missing)) / float64(total); part < 0.98 {
		t.Errorf("%.1f %% of %d exported names are documented, want 98 %%; missing:\n%s", 100*part, total, strings.Join(missing, "\n"))
	}
}

// wellKnown names say it all by their interface (error, fmt.Stringer, build.Step,
// sort and the marshalers), and methods of unexported types are nobody's API.
func wellKnown(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return false
	}
	switch d.Name.Name {
	case "Error", "String", "Unwrap", "Name", "Deps", "Run", "Version", "Sources", "Len", "Less", "Swap", "Read", "Write", "Close",
		"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText":
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && !id.IsExported()
}

func TestFunctionsAreShort(t *testing.T) {
	var lengths []int
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			n := s.fset.Position(f.Body.Rbrace).Line - s.fset.Position(f.Body.Lbrace).Line
			lengths = append(lengths, n)
			if n > 120 {
				t.Errorf("%s: %s has %d lines, the limit is 120", s.path, f.Name.Name, n)
			}
		}
	}
	slices.Sort(lengths)
	at := func(part float64) int { return lengths[int(float64(len(lengths)-1)*part)] }
	for _, want := range []struct {
		part float64
		max  int
	}{{0.9, 40}, {0.99, 100}} {
		if got := at(want.part); got > want.max {
			t.Errorf("%g %% of the functions have up to %d lines, want at most %d", 100*want.part, got, want.max)
		}
	}
	t.Logf("%d functions, median %d lines", len(lengths), at(0.5))
}

func TestNamesOfPlaces(t *testing.T) {
	banned := []string{"util", "utils", "helper", "helpers", "manager", "common", "misc"}
	for _, s := range sources(t) {
		for _, part := range strings.Split(path.Dir(s.path), "/") {
			if slices.Contains(banned, part) {
				t.Errorf("%s: %q names neither a place nor an act", s.path, part)
			}
		}
	}
}

// host are the directories of the build system; none of them belongs on a device.
var host = []string{
	"bootloader", "build", "containers", "debian", "emulator", "images", "internal/host", "internal/workspace", "kernel", "mage", "targets", "test",
}

// runtimeCore are the packages behind the control socket: the server (not its clients,
// which lie below it), the logs, the engine and the running device.
var runtimeCore = []string{"=runtime/ctrl", "runtime/logs", "runtime/engine", "runtime/device"}

// above are the directories that nothing in internal may import, unless it serves one of
// them alone.
var above = append([]string{"runtime", "revision", "formats"}, host...)

// layers gives the direction of imports: what a package below the first directory
// imports, by itself or through others, must not lie below the directories of the second
// column. A directory that begins with = stands for its own package, not for those below.
var layers = []struct {
	from string
	to   []string
	why  string
}{
	{"runtime", host, "the device does not carry the build system"},
	{"revision", append([]string{"runtime"}, host...), "what host and device share stands below both"},
	{"flash", append([]string{"runtime", "revision"}, host...), "what host and device share stands below both"},
	{"formats", append([]string{"runtime", "revision"}, host...), "a format knows no user of it"},
	{"build", []string{"images", "kernel", "bootloader", "debian", "runtime", "revision", "containers", "emulator", "internal/workspace", "mage", "test"}, "the graph knows no step of it"},
	{"targets", []string{"build", "images", "kernel", "bootloader", "debian", "runtime", "revision", "containers", "emulator", "internal/workspace", "mage", "test"}, "a target is data"},
	{"kernel", []string{"images", "bootloader", "containers", "emulator", "runtime", "internal/workspace", "mage", "test"}, "a source of kernels knows nobody who asks it"},
	{"bootloader", []string{"images", "kernel", "containers", "emulator", "runtime", "internal/workspace", "mage", "test"}, "a boot loader knows nobody who composes it"},
	{"containers", []string{"images", "kernel", "bootloader", "emulator", "runtime", "internal/workspace", "mage", "test"}, "a container knows no image"},
	{"images", []string{"emulator", "runtime", "internal/workspace", "mage", "test"}, "composing starts nothing"},
	{"debian", []string{"targets", "images", "kernel", "bootloader", "containers", "emulator", "runtime", "internal/workspace", "mage", "test"}, "packages know nobody who asks for them"},
	{"emulator", []string{"images", "build", "kernel", "bootloader", "containers", "internal/workspace", "mage", "test"}, "the emulator takes an image from anywhere"},
	{"runtime/pvcontrol", runtimeCore, "a client of the control socket carries no server"},
	{"runtime/pvcurl", runtimeCore, "a client of the control socket carries no server"},
	{"runtime/pvtx", runtimeCore, "a client of the control socket carries no server"},
	{"runtime/pventer", runtimeCore, "a client of the control socket carries no server"},
	{"emulator", runtimeCore, "a client of the control socket carries no server"},
	{"test/vm", runtimeCore, "a client of the control socket carries no server"},
	{"test/appengine", runtimeCore, "a client of the control socket carries no server"},
	{"runtime/ctrl/api", runtimeCore, "a client of the control socket carries no server"},
	{"runtime/ctrl/client", runtimeCore, "a client of the control socket carries no server"},
	{"runtime/ctrl/http1", runtimeCore, "a client of the control socket carries no server"},
	{"runtime/engine", []string{"runtime/config", "runtime/logs", "=runtime/ctrl", "runtime/meta", "runtime/device"}, "the engine gets its settings and services from the device"},
	{"internal/workspace", []string{"mage", "test"}, "commands are skins over the workspace, and tests use it"},
	{"internal/atomicfile", above, "every layer imports it"},
	{"internal/fault", above, "every layer imports it"},
	{"internal/oracle", above, "every layer imports it"},
	{"internal/filelock", above, "every layer imports it"},
	{"internal/filecopy", above, "every layer imports it"},
	{"internal/ctxio", above, "every layer imports it"},
	{"internal/bounded", above, "every layer imports it"},
	{"internal/spelling", above, "every layer imports it"},
	{"internal/yamlfile", above, "every layer imports it"},
	{"internal/octal", above, "every layer imports it"},
	{"internal/command", above, "every layer imports it"},
	{"internal/host", []string{"runtime", "revision", "formats", "build", "images", "kernel", "bootloader", "containers", "debian", "emulator", "targets", "internal/workspace", "mage", "test"}, "every layer of the build system imports it"},
	{"internal/cachedir", above, "every layer imports it"},
	{"internal/layers", above, "it knows names and directories, not what is in them"},
}

// imports maps each package of the module to the ones that it imports, by directory.
// Tests and the packages that serve tests alone do not count.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	graph := map[string][]string{}
	for _, s := range sources(t) {
		if s.test() || strings.HasSuffix(path.Dir(s.path), "test") {
			continue
		}
		for _, imp := range s.file.Imports {
			if to, ok := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module+"/"); ok {
				dir := path.Dir(s.path)
				graph[dir] = append(graph[dir], to)
			}
		}
	}
	return graph
}

// chain returns how from comes to import a package below one of the directories, or nil.
func chain(graph map[string][]string, from string, dirs []string) []string {
	seen := map[string]bool{from: true}
	paths := [][]string{{from}}
	for len(paths) > 0 {
		p := paths[0]
		paths = paths[1:]
		for _, to := range graph[p[len(p)-1]] {
			next := append(slices.Clone(p), to)
			if slices.ContainsFunc(dirs, func(dir string) bool { return within(to, dir) && !within(from, dir) }) {
				return next
			}
			if !seen[to] {
				seen[to] = true
				paths = append(paths, next)
			}
		}
	}
	return nil
}

func TestImportsPointDownwards(t *testing.T) {
	graph := imports(t)
	for _, l := range layers {
		for from := range graph {
			if !within(from, l.from) {
				continue
			}
			if p := chain(graph, from, l.to); p != nil {
				t.Errorf("%s: %s", strings.Join(p, " imports "), l.why)
			}
		}
		for _, dir := range append([]string{l.from}, l.to...) {
			if _, err := os.Stat(filepath.Join(root, strings.TrimPrefix(dir, "="))); err != nil {
				t.Errorf("the rule for %s names a directory that does not exist: %v", l.from, err)
			}
		}
	}
}

// importers lists all packages that may import a package directly.
var importers = map[string][]string{
	"runtime/device": {"cmd/pantavisor", "runtime/appengine"},
}

func TestImporters(t *testing.T) {
	for from, tos := range imports(t) {
		for _, to := range tos {
			if allowed, ok := importers[to]; ok && !slices.Contains(allowed, from) {
				t.Errorf("%s imports %s; only %s may", from, to, strings.Join(allowed, " and "))
			}
		}
	}
}

// TestImportChain proves that the walk sees what lies behind another package.
func TestImportChain(t *testing.T) {
	graph := map[string][]string{"runtime/a": {"revision/b"}, "revision/b": {"formats/c"}, "formats/c": {"build/d"}}
	if got := strings.Join(chain(graph, "runtime/a", []string{"build"}), " "); got != "runtime/a revision/b formats/c build/d" {
		t.Errorf("found %q", got)
	}
	if got := chain(graph, "runtime/a", []string{"buil", "runtime", "=formats", "=build"}); got != nil {
		t.Errorf("found %q", got)
	}
	if got := strings.Join(chain(graph, "runtime/a", []string{"=formats/c"}), " "); got != "runtime/a revision/b formats/c" {
		t.Errorf("found %q", got)
	}
}

// within reports whether package p lies below dir, or is dir when that begins with =.
func within(p, dir string) bool {
	if exact, ok := strings.CutPrefix(dir, "="); ok {
		return p == exact
	}
	return under(p, dir)
}

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// TestDocsNameCommandsThatExist looks for "mage WORD" in the documents and for
// WORD among the commands of package mage.
func TestDocsNameCommandsThatExist(t *testing.T) {
	targets := mageTargets(t)
	command := regexp.MustCompile("(?m)(?:`|^ *(?:\\$ |sudo |[A-Z_]+=\\S+ )*)(?:go tool )?mage ([a-z][a-z:]*)")
	docs, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, doc := range append(docs, root+"/README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllSubmatch(text, -1) {
			found++
			if name := strings.ToLower(string(m[1])); !targets[name] {
				t.Errorf("%s: mage %s is not a command of package mage", doc, name)
			}
		}
	}
	if found == 0 {
		t.Error("no command found in any document: the expression is wrong")
	}
}

func mageTargets(t *testing.T) map[string]bool {
	t.Helper()
	targets := map[string]bool{}
	for _, s := range sources(t) {
		if path.Dir(s.path) != "mage" {
			continue
		}
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Name.IsExported() {
				name := strings.ToLower(f.Name.Name)
				if f.Recv != nil {
					name = strings.ToLower(f.Recv.List[0].Type.(*ast.Ident).Name) + ":" + name
				}
				targets[name] = true
			}
		}
	}
	if len(targets) == 0 {
		t.Fatal("package mage has no commands")
	}
	magefile, err := os.ReadFile(root + "/magefile.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, alias := range regexp.MustCompile(`"([a-z:]+)": mage\.`).FindAllSubmatch(magefile, -1) {
		targets[string(alias[1])] = true
	}
	return targets
}

// registries are hosts that parts come from. The machine's own clients know them;
// the tree does not name them, here neither.
var registries = [][]string{
	{"deb", "debian", "org"}, {"security", "debian", "org"}, {"proxy", "golang", "org"}, {"registry", "npmjs", "org"},
}

// machinePaths are the directories that stand for this machine and nothing else.
func machinePaths(t *testing.T) []string {
	t.Helper()
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{here}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		paths = append(paths, home)
	}
	return paths
}

// TestNothingOfOneMachine keeps absolute paths of a developer's machine and hosts
// of package registries out of the tree: parts are fetched through the machine's
// own clients.
func TestNothingOfOneMachine(t *testing.T) {
	var words []string
	for _, host := range registries {
		words = append(words, regexp.QuoteMeta(strings.Join(host, ".")))
	}
	for _, p := range machinePaths(t) {
		words = append(words, `(?:^|[^\w+"])`+regexp.QuoteMeta(p)+"/")
	}
	banned := regexp.MustCompile(strings.Join(words, "|"))
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if name == ".git" || name == "out" {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || name == "go.sum" {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := banned.FindString(line); m != "" {
				t.Errorf("%s:%d: %q belongs to one machine or registry", p, i+1, m)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

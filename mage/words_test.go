package mage

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestRunWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage":                       "mage |",
		"mage build x -- y":          "mage build x -- y |",
		"mage run x":                 "mage run x |",
		"mage run x --json":          "mage run x --json |",
		"mage run x --forward 1:2":   "mage run x --forward=1:2 |",
		"mage Run x -forward=1:2":    "mage Run x -forward=1:2 |",
		"mage run x --logs":          "mage run x --logs |",
		"mage run x --keep --logs d": "mage run x --keep --logs=d |",
		"mage run x --forward 1:2 --json --forward=3:4 --Forward 5:6": "mage run x --forward=1:2,3:4,5:6 --json |",
		"mage run x --machine pc -- -device a --forward 1:2":          "mage run x --machine=pc | -device a --forward 1:2",
		"mage run x --": "mage run x |",
	} {
		words, behind := runWords(optionWords(strings.Fields(line)))
		if got := strings.TrimSpace(strings.Join(words, " ") + " | " + strings.Join(behind, " ")); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestDashesInNames(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage vulns x --fail-on high --data a-b": "mage vulns x --failon=high --data=a-b",
		"mage vulns x --fail-on=high,not-me":     "mage vulns x --failon=high,not-me",
		"mage Vulns x -fail-on=high":             "mage Vulns x -failon=high",
		"mage build x --no-such - --events -":    "mage build x --nosuch - --events=-",
		"mage build x ---":                       "mage build x ---",
		"mage run x -- -no-reboot":               "mage run x -- -no-reboot",
		"mage -init":                             "mage -init",
	} {
		rewritten(t, optionWords, line, want)
	}
}

func TestDistWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage dist":                             "mage dist",
		"mage dist --platform linux --out d":    "mage dist --platform=linux --out=d",
		"mage Dist --platform a/b -platform=c":  "mage Dist --platform=a/b,c",
		"mage dist --platform a,b --platform c": "mage dist --platform=a,b,c",
		"mage build --platform a --platform b":  "mage build --platform=a --platform=b",
	} {
		rewritten(t, func(words []string) []string { return distWords(optionWords(words)) }, line, want)
	}
}

// TestPersonalizeWords: each value reaches the command as it was given, with commas and line feeds.
func TestPersonalizeWords(t *testing.T) {
	t.Parallel()
	want := []string{"app/a=1,2\n3\n", "app/b=4"}
	line := []string{"mage", "personalize", "x.img", "--meta=" + want[0], "--unset", "y", "--meta", want[1]}
	var got []string
	words := personalizeWords(optionWords(line))
	for _, word := range words {
		if name, _, _ := option(word); name == "meta" {
			_, value, _ := strings.Cut(word, "=")
			got = append(got, values(&value)...)
		}
	}
	if !slices.Equal(got, want) || len(words) != 5 || words[4] != "--unset=y" {
		t.Errorf("%q, want %q; words %q", got, want, words)
	}
	if got := values(nil); got != nil {
		t.Errorf("an option that was not given has %q", got)
	}
}

func TestOptionWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage":                                   "mage",
		"mage init p --from . --module a/b":      "mage init p --from=. --module=a/b",
		"mage build x --out d --json --events -": "mage build x --out=d --json --events=-",
		"mage build x --events=- --out=d":        "mage build x --events=- --out=d",
		"mage plan x -format json":               "mage plan x -format=json",
		"mage plan x --format":                   "mage plan x --format",
		"mage plan x --format --locked":          "mage plan x --format --locked",
		"mage build x --json y":                  "mage build x --json y",
		"mage from x -- --out d":                 "mage from x -- --out d",
	} {
		rewritten(t, optionWords, line, want)
	}
}

// TestArgumentWords: options may stand before, between and behind the arguments.
func TestArgumentWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage":                                 "mage",
		"mage targets --json":                  "mage targets --json",
		"mage build --out=d --json x":          "mage build x --out=d --json",
		"mage Build --out d x --json":          "mage Build x --out=d --json",
		"mage build --json x lint":             "mage build x --json lint",
		"mage build --json":                    "mage build",
		"mage build --bogus x":                 "mage build x --bogus",
		"mage init --from . p --module a/b":    "mage init p --from=. --module=a/b",
		"mage why x --json step":               "mage why x step --json",
		"mage device --json x --locked d":      "mage device x d --json --locked",
		"mage run --forward 1:2 x --keep -- y": "mage run x --forward=1:2 --keep -- y",
		"mage run --keep -- y":                 "mage run -- y",
		"mage export --target t a --json b":    "mage export a b --target=t --json",
		"mage verify x64-uefi --json a.img":    "mage verify x64-uefi a.img --json",
		"mage appengine:run -i local:0":        "mage appengine:run local:0 -i",
	} {
		rewritten(t, func(words []string) []string { return argumentWords(optionWords(words)) }, line, want)
	}
	verify := argumentWords([]string{"mage", "verify", "x64-uefi", "--json"})
	if want := []string{"mage", "verify", "x64-uefi", "", "--json"}; !slices.Equal(verify, want) {
		t.Errorf("%q, want %q", verify, want)
	}
	got := argumentWords([]string{"mage", "appengine:run", "-o"})
	if want := []string{"mage", "appengine:run", "", "-o"}; !slices.Equal(got, want) {
		t.Errorf("without a word: %q, want %q", got, want)
	}
}

// TestArguments compares the table with the parameters of the commands.
func TestArguments(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	for _, f := range commands(t) {
		for _, field := range f.Type.Params.List {
			if kind, ok := field.Type.(*ast.Ident); ok && kind.Name == "string" {
				found[commandName(f)] += len(field.Names)
			}
		}
	}
	if !maps.Equal(found, arguments) {
		t.Errorf("the commands need %v words, the table says %v", found, arguments)
	}
}

// commandName is what a user types for a command.
func commandName(f *ast.FuncDecl) string {
	name := strings.ToLower(f.Name.Name)
	if f.Recv != nil {
		name = strings.ToLower(fmt.Sprint(f.Recv.List[0].Type)) + ":" + name
	}
	return name
}

// rewritten checks what a function makes of a command line.
func rewritten(t *testing.T, rewrite func([]string) []string, line, want string) {
	t.Helper()
	if got := strings.Join(rewrite(strings.Fields(line)), " "); got != want {
		t.Errorf("%s: %q, want %q", line, got, want)
	}
}

// toolsOwn are the commands that pass on what other programs print: they have no data of
// their own.
var toolsOwn = []string{"Arch", "Attack", "Boards", "Test", "Fuzz", "Lint"}

// TestEveryCommandHasJSON: each command that prints data prints it as JSON when asked to.
func TestEveryCommandHasJSON(t *testing.T) {
	t.Parallel()
	eachCommand(t, func(name string, options map[string]string) {
		if _, has := options["json"]; has == slices.Contains(toolsOwn, name) {
			t.Errorf("%s: --json is an option: %v", name, has)
		}
	})
}

// commands lists the functions that are commands.
func commands(t *testing.T) (list []*ast.FuncDecl) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "mage.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.IsExported() {
			list = append(list, f)
		}
	}
	return list
}

// eachCommand calls do with each command and its options: their types by name.
func eachCommand(t *testing.T, do func(name string, options map[string]string)) {
	t.Helper()
	for _, f := range commands(t) {
		options := map[string]string{}
		for _, field := range f.Type.Params.List {
			star, ok := field.Type.(*ast.StarExpr)
			if !ok {
				continue
			}
			for _, name := range field.Names {
				options[name.Name] = fmt.Sprint(star.X)
			}
		}
		do(f.Name.Name, options)
	}
}

// TestValuedOptions compares the list with the parameters of the commands, each of which
// is an option when its type is a pointer.
func TestValuedOptions(t *testing.T) {
	t.Parallel()
	found, bools := map[string]bool{}, map[string]bool{}
	eachCommand(t, func(_ string, options map[string]string) {
		for name, kind := range options {
			if kind == "bool" {
				bools[name] = true
			} else {
				found[name] = true
			}
		}
	})
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, valued) {
		t.Errorf("the commands have the options %v with values, the list %v", got, valued)
	}
	for name := range bools {
		if found[name] {
			t.Errorf("%s is an option with a value of one command and without one of another", name)
		}
	}
}

func TestExportWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"mage export":                       "mage export",
		"mage export a":                     "mage export a",
		"mage export a b c":                 "mage export a,b,c",
		"mage Export a b --target=t --json": "mage Export a,b --target=t --json",
		"mage export a --json":              "mage export a --json",
		"mage build a b":                    "mage build a b",
		"mage release a b --version=1":      "mage release a,b --version=1",
	} {
		rewritten(t, severalWords, line, want)
	}
}

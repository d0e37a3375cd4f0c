package app

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// recordings returns a directory of recorded commands or skips the test.
func recordings(t testing.TB, directory string) string {
	t.Helper()
	return oracle.Recordings(t, "golden/pvr/"+directory)
}

func readJSON(t testing.TB, path string, to any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// serve starts a registry over TLS that answers for every host name, and returns
// the transport that leads there.
func serve(t testing.TB) http.RoundTripper {
	t.Helper()
	server := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // as the server's certificate says
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	return transport
}

func unpack(t testing.TB, archive, dir string) {
	t.Helper()
	if out, err := exec.Command(oracle.Program(t, "tar"), "xzf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

// push puts the image or index of a layout directory into the registry.
func push(t testing.TB, dir, reference string, transport http.RoundTripper) {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	first := manifest.Manifests[0]
	if first.MediaType.IsIndex() {
		var inner v1.ImageIndex
		if inner, err = index.ImageIndex(first.Digest); err == nil {
			err = remote.WriteIndex(ref, inner, remote.WithTransport(transport))
		}
	} else {
		var img v1.Image
		if img, err = index.Image(first.Digest); err == nil {
			err = remote.Write(ref, img, remote.WithTransport(transport))
		}
	}
	if err != nil {
		t.Fatalf("pushing %s: %v", reference, err)
	}
}

// recordedRegistry serves the recorded images.
func recordedRegistry(t testing.TB) http.RoundTripper {
	t.Helper()
	images := filepath.Join(recordings(t, "app"), "images")
	transport := serve(t)
	files, err := filepath.Glob(filepath.Join(images, "*.oci.tar.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no images: %v", err)
	}
	for _, file := range files {
		dir := t.TempDir()
		unpack(t, file, dir)
		words := strings.Split(strings.TrimSuffix(filepath.Base(file), ".oci.tar.gz"), "-")
		push(t, dir, "localhost:5443/"+words[0]+"/"+words[1]+":"+words[2], transport)
	}
	return transport
}

// log collects messages.
type messages struct{ lines []string }

func (m *messages) report(msg Message) { m.lines = append(m.lines, msg.Text) }

func (m *messages) take() []string {
	lines := m.lines
	m.lines = nil
	return lines
}

func workspace(t testing.TB, transport http.RoundTripper) (*Workspace, *messages) {
	t.Helper()
	m := &messages{}
	return &Workspace{Dir: t.TempDir(), Report: m.report, Images: image.Options{Transport: transport, Cache: filepath.Join(t.TempDir(), "cache"), Socket: filepath.Join(t.TempDir(), "no.sock")}}, m
}

type listed struct {
	Path, Mode, Owner string
	Link, Device      string
	Size              int64
	SHA256            string
}

type recordedCase struct {
	Name string
	Run  struct {
		Cmd            []string
		RC             int
		Stdout, Stderr string
	}
	Files map[string]json.RawMessage
}

// list returns what unsquashfs finds in an image.
func list(t testing.TB, path string) []listed {
	t.Helper()
	unsquashfs := oracle.Program(t, "unsquashfs")
	out, err := exec.Command(unsquashfs, "-lln", "-d", "", path).CombinedOutput()
	if err != nil {
		t.Fatalf("unsquashfs %s: %v\n%s", path, err, out)
	}
	dir := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command(unsquashfs, "-no-progress", "-d", dir, path).CombinedOutput(); err != nil {
		t.Fatalf("unsquashfs %s: %v\n%s", path, err, out)
	}
	var all []listed
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 || len(fields[0]) != 10 || !strings.Contains(fields[1], "/") {
			continue
		}
		all = append(all, entry(t, dir, line, fields))
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// entry reads one line such as "-rw-r--r-- 0/0  6 2026-01-01 00:00 /bin/app".
func entry(t testing.TB, dir, line string, fields []string) listed {
	t.Helper()
	e := listed{Mode: fields[0], Owner: fields[1]}
	path := line[strings.Index(line, fields[len(fields)-1]):]
	for i, f := range fields {
		if strings.Contains(f, ":") && strings.Contains(fields[i-1], "-") {
			path = strings.Join(fields[i+1:], " ")
			if i == 5 {
				e.Device = strings.TrimSuffix(fields[2], ",") + "," + fields[3]
			}
			break
		}
	}
	e.Path, e.Link, _ = strings.Cut(path, " -> ")
	if e.Path == "" {
		e.Path = "/"
	}
	if e.Mode[0] == 'c' || e.Mode[0] == 'b' {
		e.Device = strings.ReplaceAll(strings.Join(fields[2:len(fields)-3], ""), " ", "")
	}
	if e.Mode[0] == '-' {
		data, err := os.ReadFile(filepath.Join(dir, e.Path))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		e.Size, e.SHA256 = int64(len(data)), hex.EncodeToString(sum[:])
	}
	return e
}

// checkFiles compares an application's directory with a recorded one.
func checkFiles(t *testing.T, dir string, want map[string]json.RawMessage) {
	t.Helper()
	var have, wanted []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			have = append(have, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range want {
		wanted = append(wanted, name)
		checkFile(t, filepath.Join(dir, name), raw)
	}
	slices.Sort(wanted)
	if d := cmp.Diff(wanted, have); d != "" {
		t.Errorf("files, -want +got:\n%s", d)
	}
}

func checkFile(t *testing.T, path string, raw json.RawMessage) {
	t.Helper()
	if strings.HasSuffix(path, ".squashfs") {
		var image struct{ Listing []listed }
		if json.Unmarshal(raw, &image) == nil && len(image.Listing) > 0 {
			if d := cmp.Diff(image.Listing, list(t, path)); d != "" {
				t.Errorf("%s, -want +got:\n%s", filepath.Base(path), d)
			}
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	var want string
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if filepath.Base(path) == runName {
		want, got = canonical(t, want), []byte(canonical(t, string(got)))
	}
	if filepath.Base(path) == template.ConfigName {
		got = []byte(ignoredBefore.ReplaceAllString(string(got), ""))
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("%s, -want +got:\n%s", filepath.Base(path), d)
	}
}

// ignoredBefore are the lines for the image's user and signal, which the recorded tool
// ignored: its containers run as root and end with the default signal.
var ignoredBefore = regexp.MustCompile(`(?m)^lxc\.(init\.uid|init\.gid|signal\.halt) = .*\n`)

func canonical(t testing.TB, text string) string {
	t.Helper()
	text = strings.ReplaceAll(text, `\n`, "") // a recorded defect between list elements
	v, err := canon.First([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return string(v.Encode())
}

// arguments turns recorded words into options and the application's name.
func arguments(t testing.TB, w *Workspace, words []string) (string, AddOptions, UpdateOptions) {
	t.Helper()
	var o AddOptions
	var u UpdateOptions
	var app string
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if !strings.HasPrefix(word, "-") {
			app = word
			continue
		}
		flag, value, joined := strings.Cut(word, "=")
		if flag == "--patch" || flag == "--newbase" {
			u.Patch, u.NewBase = u.Patch || flag == "--patch", u.NewBase || flag == "--newbase"
			continue
		}
		if !joined {
			value, words = words[0], words[1:]
		}
		setFlag(t, w, &o, flag, value)
	}
	u.From = o.From
	return app, o, u
}

func setFlag(t testing.TB, w *Workspace, o *AddOptions, flag, value string) {
	t.Helper()
	texts := map[string]*string{"--from": &o.From, "--group": &o.Group, "--runlevel": &o.RunLevel, "--restart-policy": &o.RestartPolicy,
		"--status-goal": &o.StatusGoal, "--base": &o.Base, "--format-options": &o.FormatOptions}
	switch flag {
	case "--platform":
		w.Images.Platforms = []string{value}
	case "--source":
		origins, err := image.ParseOrigins(value)
		if err != nil {
			t.Fatal(err)
		}
		w.Images.Origins = origins
	case "-t":
		o.Kind = Kind(value)
	case "--config-json":
		o.Config = []byte(`{"Cmd":["/c"],"Env":["E=1"],"Extra":{"k":[1]}}`)
	case "--volume":
		o.Volumes = append(o.Volumes, value)
	case "--arg":
		o.Args = append(o.Args, value)
	default:
		if texts[flag] == nil {
			t.Fatalf("flag %s is not known to the test", flag)
		}
		*texts[flag] = value
	}
}

// otherwise are the recorded cases where this package does something else.
var otherwise = map[string]struct {
	reason string
	files  bool // the recorded files do not hold
}{
	"add-again-same-name":      {reason: "says that nothing of the source is used"},
	"install-missing-squashfs": {reason: "a lost image is made again, as the manual promises", files: true},
	"docker-json":              {reason: "the list of platforms is in priority order", files: true},
	"platform-no-variant":      {reason: "linux/arm is linux/arm/v7, whatever the order of the index", files: true},
	"docker-json-single-image": {reason: "an image for another architecture has to be forced", files: true},
}

func TestRecordedImages(t *testing.T) {
	t.Parallel()
	var file struct{ Cases []recordedCase }
	readJSON(t, filepath.Join(recordings(t, "app"), "docker.json"), &file)
	if len(file.Cases) == 0 {
		t.Fatal("no cases")
	}
	w, log := workspace(t, recordedRegistry(t))
	fresh := w.Images
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			w.Images, w.DockerConfig = fresh, dockerConfigs[c.Name]
			prepare(t, w, c.Name)
			runRecorded(t, w, log, c)
		})
	}
}

// dockerConfigs are the committed lists of platforms.
var dockerConfigs = map[string][]byte{
	"docker-json":              []byte(`{"platforms":["linux/riscv64","linux/arm64","linux/arm/v7"]}`),
	"docker-json-arm64":        []byte(`{"platforms":["linux/arm64"]}`),
	"docker-json-flag-wins":    []byte(`{"platforms":["linux/arm64"]}`),
	"docker-json-single-image": []byte(`{"platforms":["linux/arm64"]}`),
}

// prepare does what was done to the tree before a recorded command.
func prepare(t *testing.T, w *Workspace, name string) {
	t.Helper()
	var gone string
	switch name {
	case "install-missing-squashfs":
		gone = "two/root.squashfs"
	case "install-missing-digest":
		gone = "two/root.squashfs.docker-digest"
	default:
		return
	}
	if err := os.Remove(filepath.Join(w.Dir, gone)); err != nil {
		t.Fatal(err)
	}
}

func runRecorded(t *testing.T, w *Workspace, log *messages, c recordedCase) {
	app, add, update := arguments(t, w, c.Run.Cmd[3:])
	w.NoSBOM = true // the recorded tool made none
	before := treeOf(t, w.Dir)
	var err error
	switch c.Run.Cmd[2] {
	case "add":
		_, err = w.Add(context.Background(), app, add)
		if err != nil && c.Name == "docker-json-single-image" && strings.Contains(err.Error(), "for linux/amd64, not for linux/arm64") {
			add.Force = true
			_, err = w.Add(context.Background(), app, add)
		}
	case "update":
		_, err = w.Update(context.Background(), app, update)
	case "install":
		_, err = w.Install(context.Background(), app)
	case "rm":
		err = w.Remove(app)
	case "ls":
		checkList(t, w, c)
	}
	lines := log.take()
	if c.Run.RC != 0 {
		if err == nil {
			t.Error("no error")
		}
		if d := cmp.Diff(before, treeOf(t, w.Dir)); d != "" {
			t.Errorf("the tree changed:\n%s", d)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	checkLines(t, c, lines)
	if len(c.Files) > 0 && !otherwise[c.Name].files {
		checkFiles(t, filepath.Join(w.Dir, strings.Trim(app, "/")), c.Files)
	}
	if c.Name == "docker-json" {
		if src, err := w.read(app); err != nil || src.Text("docker_platform") != "linux/arm64" {
			t.Errorf("platform %q, %v; want the first of the list that there is", src.Text("docker_platform"), err)
		}
	}
	if c.Name == "install-missing-squashfs" && len(list(t, filepath.Join(w.Dir, app, rootName))) < 5 {
		t.Error("the image was not made again")
	}
}

func checkList(t *testing.T, w *Workspace, c recordedCase) {
	t.Helper()
	names, err := w.List()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c.Run.Stdout, strings.Join(names, "\n")+"\n"); d != "" {
		t.Error(d)
	}
}

// checkLines compares what the user is told, except for the name of a program
// that is not used here, what is said twice, what a second look at the same
// image says, and the order of the two streams.
func checkLines(t *testing.T, c recordedCase, got []string) {
	t.Helper()
	if otherwise[c.Name].reason != "" || c.Run.Cmd[2] == "ls" || c.Run.Cmd[2] == "rm" {
		return
	}
	if d := cmp.Diff(distinct(strings.Split(c.Run.Stdout+c.Run.Stderr, "\n")), distinct(got)); d != "" {
		t.Errorf("messages, -want +got:\n%s", d)
	}
}

func distinct(lines []string) []string {
	set := map[string]bool{}
	for _, l := range lines {
		switch {
		case l == "", strings.HasPrefix(l, "local source had"), strings.HasPrefix(l, " Cannot connect"), l == "Found Manifest for default platform.":
			continue
		case strings.HasPrefix(l, "Generating squashfs file"):
			l = "Generating squashfs file"
		}
		set[strings.TrimSuffix(l, "(cache)")] = true
	}
	var out []string
	for l := range set {
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// treeOf lists a directory's files with the digests of their contents.
func treeOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			found[p] = "directory"
			return err
		}
		data, err := os.ReadFile(p)
		sum := sha256.Sum256(data)
		found[p] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// tarOf makes a tar archive of names and contents; a name ending in "/" is a
// directory.
func tarOf(t testing.TB, members ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m[0], Mode: 0o644, Size: int64(len(m[1])), Typeflag: tar.TypeReg}
		if strings.HasSuffix(m[0], "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestManifest compares manifests for a project with the article on packages of containers, byte for byte.
func TestManifest(t *testing.T) {
	const article = `{
  "#spec": "service-manifest-src@1",
  "template": "builtin-lxc-docker",
  "docker_name": "registry.gitlab.com/pantacor/pantavisor-web-status",
  "docker_tag": "master",
  "docker_source": "remote,local",
  "docker_platform": "linux/amd64"
}
`
	origins := []image.Origin{image.Remote, image.Local}
	for from, want := range map[string]string{
		"registry.gitlab.com/pantacor/pantavisor-web-status:master": article,
		"oci:out/image":            strings.NewReplacer("registry.gitlab.com/pantacor/pantavisor-web-status", "oci:out/image", "  \"docker_tag\": \"master\",\n", "").Replace(article),
		"docker-archive:web.tar:1": strings.NewReplacer("registry.gitlab.com/pantacor/pantavisor-web-status", "docker-archive:web.tar", "master", "1").Replace(article),
	} {
		o := AddOptions{From: from}
		got, err := o.Manifest("linux/amd64", origins)
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", from, err, got)
		}
	}
	o := AddOptions{From: "web:1", Group: "system", Volumes: []string{"/data:permanent"}}
	got, err := o.Manifest("linux/arm/v6", origins)
	if err != nil || !strings.Contains(string(got), "\"args\": {\n    \"PV_GROUP\": \"system\"\n  },\n  \"docker_name\": \"web\"") {
		t.Errorf("with arguments: %v\n%s", err, got)
	}
	if _, err := (&AddOptions{From: "rootfs.tar", Kind: Rootfs}).Manifest("linux/amd64", origins); fault.Of(err) != fault.BadInput {
		t.Errorf("of a root file system: %v", err)
	}
}

package devices

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Sources is the record of what a BSP was made of.
type Sources struct {
	Target   string `json:"target"`
	Platform string `json:"platform,omitempty"`
	// Version is PV_VERSION of the build; Project, Commit and Pipeline are the pipeline's.
	Version  string `json:"version,omitempty"`
	Project  string `json:"project,omitempty"`
	Commit   string `json:"commit,omitempty"`
	Pipeline string `json:"pipeline,omitempty"`
	// BSP is the export, Lock the text of parts.lock with the packages that were used.
	BSP  Recorded `json:"bsp"`
	Lock Recorded `json:"lock"`
	// Manifests are those of repo in the project.
	Manifests []Manifest `json:"manifests"`
}

// Recorded is a file with its digest.
type Recorded struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Text   string `json:"text,omitempty"` // of a text
}

// Manifest is a manifest of repo.
type Manifest struct {
	Recorded
	Projects []Project `json:"projects"`
}

// Project is a repository that a manifest names.
type Project struct {
	Name     string `json:"name"`
	Path     string `json:"path,omitempty"`
	Revision string `json:"revision,omitempty"`
}

// manifestNames are the manifests of repo that the root of a project may have (manual: BSP CI Reference).
var manifestNames = []string{"release.xml", "default.xml"}

// Limits of files that are read, in bytes.
const (
	mostList     = 64 << 20
	mostManifest = 4 << 20
)

// BSPOptions say what is posted, and from where it is.
type BSPOptions struct {
	// Dir is the project.
	Dir string
	// List is the file of mage build --artefacts.
	List string
	// Platform is the name of the platform, for the record.
	Platform string
	// Env has the variables of the pipeline, in the form of os.Environ.
	Env []string
	// DryRun posts nothing.
	DryRun bool
	// Say is called with each warning.
	Say func(line string)
}

// Posted is what a post did.
type Posted struct {
	Target   string   `json:"target"`
	Device   string   `json:"device"`
	Changes  []Change `json:"changes"`
	Posted   bool     `json:"posted"` // or would be, with DryRun
	Revision string   `json:"revision,omitempty"`
	Message  string   `json:"message"`
}

// listed is what is read of a list of results.
type listed struct {
	Target    string `json:"target"`
	Directory string `json:"directory"`
	Artefacts []struct {
		Path   string `json:"path"`
		SHA256 string `json:"sha256"`
	} `json:"artefacts"`
}

// export returns the BSP's export of the list.
func (l *listed) export() (string, error) {
	var all []string
	for _, a := range l.Artefacts {
		if strings.HasSuffix(a.Path, ".pvr.tgz") && filepath.IsLocal(a.Path) {
			all = append(all, a.Path)
		}
	}
	if i := slices.Index(all, l.Target+".pvr.tgz"); i >= 0 {
		all = all[i : i+1]
	}
	if len(all) != 1 {
		return "", fault.New(fault.BadInput, "the results of %s have %d exports, and none of the name %s.pvr.tgz", l.Target, len(all), l.Target)
	}
	return filepath.Join(l.Directory, filepath.FromSlash(all[0])), nil
}

func (o *BSPOptions) read() (*listed, error) {
	data, err := bounded.ReadRegular(o.List, mostList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Missing, "reading the list of results (mage build --artefacts): %w", err)
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the list of results (mage build --artefacts)")
	}
	var l listed
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", o.List)
	}
	if l.Target == "" || l.Directory == "" {
		return nil, fault.New(fault.BadInput, "%s is not a list of results: mage build TARGET --artefacts=FILE makes one", o.List)
	}
	return &l, nil
}

// Sources returns the record of what the BSP was made of.
func (o BSPOptions) Sources(context.Context) (*Sources, error) {
	l, err := o.read()
	if err != nil {
		return nil, err
	}
	return o.sources(l)
}

func (o *BSPOptions) sources(l *listed) (*Sources, error) {
	env := environment(o.Env)
	s := &Sources{
		Target: l.Target, Platform: o.Platform, Version: env.get("PV_VERSION"), Manifests: []Manifest{},
		Project:  env.first("CI_PROJECT_PATH", "GITHUB_REPOSITORY"),
		Commit:   env.first("CI_COMMIT_SHA", "GITHUB_SHA"),
		Pipeline: env.first("CI_PIPELINE_ID", "GITHUB_RUN_ID"),
	}
	export, err := l.export()
	if err != nil {
		return nil, err
	}
	s.BSP.File = filepath.Base(export)
	for _, a := range l.Artefacts {
		if a.Path == s.BSP.File {
			s.BSP.SHA256 = a.SHA256
		}
	}
	report, err := build.LoadReport(filepath.Join(l.Directory, build.ReportName))
	if err != nil {
		return nil, err
	}
	if report.Recipe == nil {
		return nil, fault.New(fault.BadInput, "the report of the build of %s has no recipe: it failed", l.Target)
	}
	s.Lock = recorded("parts.lock", []byte(report.Recipe.Lock))
	for _, name := range manifestNames {
		m, err := readManifest(filepath.Join(o.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Manifests = append(s.Manifests, *m)
	}
	return s, nil
}

// first returns the value of the first variable that is set.
func (e environment) first(names ...string) string {
	for _, name := range names {
		if v := e.get(name); v != "" {
			return v
		}
	}
	return ""
}

func recorded(name string, text []byte) Recorded {
	sum := sha256.Sum256(text)
	return Recorded{File: name, SHA256: hex.EncodeToString(sum[:]), Text: string(text)}
}

// readManifest reads a manifest of repo (gerrit.googlesource.com/git-repo, docs/manifest-format.md):
// the revision of a project is its own or the default.
func readManifest(file string) (*Manifest, error) {
	text, err := bounded.ReadRegular(file, mostManifest)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading a manifest of repo")
	}
	var doc struct {
		XMLName xml.Name `xml:"manifest"`
		Default struct {
			Revision string `xml:"revision,attr"`
		} `xml:"default"`
		Projects []struct {
			Name     string `xml:"name,attr"`
			Path     string `xml:"path,attr"`
			Revision string `xml:"revision,attr"`
		} `xml:"project"`
	}
	if err := xml.NewDecoder(bytes.NewReader(text)).Decode(&doc); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s as a manifest of repo", file)
	}
	m := &Manifest{Recorded: recorded(filepath.Base(file), text), Projects: []Project{}}
	for _, p := range doc.Projects {
		if p.Revision == "" {
			p.Revision = doc.Default.Revision
		}
		m.Projects = append(m.Projects, Project(p))
	}
	return m, nil
}

// message is the message of the revision: what it is, and what it was made of, by digests. Their texts are
// in the record, and parts.lock is in the commit.
func (s *Sources) message() string {
	var b strings.Builder
	fmt.Fprintf(&b, "BSP of %s", s.Target)
	if s.Version != "" {
		fmt.Fprintf(&b, " %s", s.Version)
	}
	b.WriteString("\n\n")
	for _, line := range []struct{ name, value string }{
		{"platform", s.Platform}, {"project", s.Project}, {"commit", s.Commit}, {"pipeline", s.Pipeline},
		{"parts.lock", "sha256:" + s.Lock.SHA256},
	} {
		if line.value != "" {
			fmt.Fprintf(&b, "%s: %s\n", line.name, line.value)
		}
	}
	for _, m := range s.Manifests {
		fmt.Fprintf(&b, "%s: sha256:%s, %d projects\n", m.File, m.SHA256, len(m.Projects))
	}
	return strings.TrimSpace(b.String())
}

// BSPDevice returns the device of a pipeline: stable for a tag, else latest.
func BSPDevice(env []string, latest, stable string) (string, error) {
	e := environment(env)
	name, variable, what := latest, "PH_TARGET_DEVICE_LATEST", "a pipeline of a branch"
	if e.get("CI_COMMIT_TAG") != "" || e.get("GITHUB_REF_TYPE") == "tag" {
		name, variable, what = stable, "PH_TARGET_DEVICE_STABLE", "a pipeline of a tag"
	}
	if name == "" {
		return "", fault.New(fault.BadInput, "this is %s, and no device is named for it: set %s", what, variable)
	}
	return name, nil
}

// tries bounds how often a post begins anew when the device has got another revision meanwhile.
const tries = 5

// Post makes the BSP a part of the device's newest revision, in place of the one that it has. What else the
// device has stays. A device that has the same BSP gets no revision.
func (o BSPOptions) Post(ctx context.Context, device string) (*Posted, error) {
	l, err := o.read()
	if err != nil {
		return nil, err
	}
	sources, err := o.sources(l)
	if err != nil {
		return nil, err
	}
	export, err := l.export()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the project")
	}
	places, err := openPlaces(dir, o.Env, o.Say)
	if err != nil {
		return nil, err
	}
	at, err := places.open(device)
	if err != nil {
		return nil, err
	}
	tmp, err := scratch.New("pvci-bsp-")
	if err != nil {
		return nil, err
	}
	defer tmp.Remove()
	store, made, err := unpack(ctx, export, filepath.Join(tmp.Path, "objects"))
	if err != nil {
		return nil, err
	}
	out := &Posted{Target: l.Target, Device: device, Message: sources.message()}
	for try := 1; ; try++ {
		err = o.post(ctx, at, store, made, out)
		if fault.Of(err) != fault.Different || try == tries {
			return out, fault.Wrap(fault.Of(err), err, "posting the BSP of %s", l.Target)
		}
	}
}

// unpack reads an export of a BSP into a store of objects.
func unpack(ctx context.Context, export, to string) (*objects.Store, *state.State, error) {
	source, err := repo.Local(export, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fault.New(fault.Missing, "reading the export of the BSP: %w", err)
	}
	if err != nil {
		return nil, nil, fault.Wrap(fault.IO, err, "reading the export of the BSP")
	}
	store, err := objects.Create(to)
	if err != nil {
		return nil, nil, err
	}
	pulled, err := source.Pull(ctx, store, func(string) bool { return true })
	if err != nil {
		return nil, nil, fault.Wrap(fault.BadInput, err, "reading the export of the BSP %s", export)
	}
	if !slices.Contains(pulled.State.Parts(), bspPart) {
		return nil, nil, fault.New(fault.BadInput, "%s has no part %s", export, bspPart)
	}
	return store, pulled.State, nil
}

// post is one try of Post.
func (o *BSPOptions) post(ctx context.Context, at place, store *objects.Store, made *state.State, out *Posted) error {
	has, err := at.read(ctx)
	if err != nil {
		return fmt.Errorf("reading the device %s: %w", out.Device, err)
	}
	next := made
	if !isEmpty(has.state) {
		if next, err = state.Get(has.state, made, state.Fragment{Take: made.Parts()}); err != nil {
			return err
		}
	}
	out.Changes, out.Revision = changes(has.state, next), has.name
	out.Posted = !equal(has.state, next)
	if !out.Posted || o.DryRun {
		return nil
	}
	if err := compatible(next); err != nil {
		return fault.Wrap(fault.BadInput, err, "joining the BSP with what %s has", out.Device)
	}
	if err := at.fetch(ctx, &revision{has.state, has.name}, store); err != nil {
		return fmt.Errorf("getting the objects of %s: %w", out.Device, err)
	}
	out.Revision, err = at.post(ctx, posting{state: next, store: store, base: has.state, message: out.Message})
	return err
}

// String describes a post in a line for each change.
func (p *Posted) String() string {
	if !p.Posted {
		return fmt.Sprintf("%s has the BSP of %s already\n", p.Device, p.Target)
	}
	text := fmt.Sprintf("%s: the BSP of %s", p.Device, p.Target)
	if p.Revision != "" {
		text += ", revision " + p.Revision
	}
	for _, c := range p.Changes {
		text += "\n  " + c.String()
	}
	return text + "\n"
}

package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Names of the forms (https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1). BuildType
// says what the parameters mean: docs/release.md.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://slsa.dev/provenance/v1"
	BuildType     = "https://github.com/pantavisor/pantavisor/build/v1"
	// PayloadType is that of the envelope.
	PayloadType = "application/vnd.in-toto+json"
	// LocalBuilder is the builder of a build that names none.
	LocalBuilder = "https://github.com/pantavisor/pantavisor/builder/local"
)

// Statement is an in-toto statement with the provenance of a build.
type Statement struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     Predicate  `json:"predicate"`
}

// Resource is what in-toto calls a resource descriptor.
type Resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// Predicate is the provenance of SLSA v1.
type Predicate struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition is what was built of what.
type BuildDefinition struct {
	BuildType            string             `json:"buildType"`
	ExternalParameters   ExternalParameters `json:"externalParameters"`
	InternalParameters   InternalParameters `json:"internalParameters"`
	ResolvedDependencies []Resource         `json:"resolvedDependencies"`
}

// ExternalParameters are what the user has asked for.
type ExternalParameters struct {
	Target string `json:"target"`
	// Settings are environment variables of the recipe; those with secrets are left out. Files
	// are those that name files, with the digests of these, "" for a directory.
	Settings map[string]string `json:"settings"`
	Files    map[string]string `json:"files,omitempty"`
}

// InternalParameters are what the builder has added.
type InternalParameters struct {
	Go string `json:"go"`
	// RecipeSHA256 is the digest of the recipe in the build's report, in JSON without blanks.
	RecipeSHA256 string `json:"recipe_sha256"`
}

// RunDetails are about the one run.
type RunDetails struct {
	Builder  Builder  `json:"builder"`
	Metadata Metadata `json:"metadata"`
}

// Builder is who has run the build.
type Builder struct {
	ID string `json:"id"`
}

// Metadata are its times.
type Metadata struct {
	InvocationID string `json:"invocationId,omitempty"`
	StartedOn    string `json:"startedOn"`
	FinishedOn   string `json:"finishedOn"`
}

// Origin is what a report does not say.
type Origin struct {
	// Sources are the source trees.
	Sources []Resource
	// Builder is a URI; Invocation is the number of the run there. Both may be empty.
	Builder, Invocation string
}

// NewStatement returns the statement about files that a build has made, in their order.
func NewStatement(r *build.Report, files []File, o Origin) (*Statement, error) {
	if r.Recipe == nil {
		return nil, fault.New(fault.Internal, "the report of %s has no recipe", r.Target)
	}
	sum, err := recipeSum(r.Recipe)
	if err != nil {
		return nil, err
	}
	dependencies, err := dependencies(r.Recipe, o.Sources)
	if err != nil {
		return nil, err
	}
	if o.Builder == "" {
		o.Builder = LocalBuilder
	}
	s := &Statement{Type: StatementType, PredicateType: PredicateType, Predicate: Predicate{
		BuildDefinition: BuildDefinition{
			BuildType: BuildType, ExternalParameters: ExternalParameters{Target: r.Target, Settings: settings(r.Recipe)},
			InternalParameters: InternalParameters{Go: r.Recipe.Go, RecipeSHA256: sum}, ResolvedDependencies: dependencies,
		},
		RunDetails: RunDetails{Builder: Builder{o.Builder}, Metadata: Metadata{
			InvocationID: o.Invocation, FinishedOn: stamp(r.Finished), StartedOn: stamp(r.Finished.Add(-time.Duration(r.Wall * float64(time.Second)))),
		}},
	}}
	for name, f := range r.Recipe.Files {
		p := &s.Predicate.BuildDefinition.ExternalParameters
		if p.Files == nil {
			p.Files = map[string]string{}
		}
		p.Files[name] = f.SHA256
	}
	for _, f := range files {
		s.Subject = append(s.Subject, Resource{Name: f.Name, Digest: sha(f.SHA256)})
	}
	return s, nil
}

func sha(sum string) map[string]string { return map[string]string{"sha256": sum} }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// recipeSum is the digest of a recipe.
func recipeSum(r *build.Recipe) (string, error) {
	text, err := json.Marshal(r)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), fault.Wrap(fault.Internal, err, "reading the recipe")
}

// settings are those of a recipe, without user and password of an address.
func settings(r *build.Recipe) map[string]string {
	out := map[string]string{}
	for name, value := range r.Settings {
		out[name] = WithoutPassword(value)
	}
	return out
}

// WithoutPassword returns a value without user and password, when it is an address that has them.
func WithoutPassword(value string) string {
	if u, err := url.Parse(value); err == nil && u.User != nil {
		u.User = nil
		return u.String()
	}
	return value
}

// dependencies lists the packages, the files that variables name, and the sources.
func dependencies(r *build.Recipe, sources []Resource) ([]Resource, error) {
	lock, err := debian.ParseLock([]byte(r.Lock))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "reading the lock of the recipe")
	}
	out := append([]Resource{}, sources...)
	known := map[string]bool{}
	for _, e := range lock.Packages {
		if !known[e.SHA256] {
			known[e.SHA256] = true
			out = append(out, Resource{Name: e.Package, URI: e.Bill().PURL, Digest: sha(e.SHA256)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		if sum := r.Files[name].SHA256; sum != "" {
			out = append(out, Resource{Name: name, Digest: sha(sum)})
		}
	}
	return out, nil
}
